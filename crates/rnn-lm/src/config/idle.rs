//! Settings that change nothing beside the others: whoever said one of them meant something else.

use super::{Config, Data, Model, Rates, Training};

/// A setting that has no effect as the others are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Idle {
    /// The section that it is in.
    pub section: &'static str,
    /// Its name there.
    pub name: &'static str,
    /// What it is for.
    pub purpose: &'static str,
}

impl Config {
    /// Every setting that has no effect as the others are.
    ///
    /// ```
    /// use rnn_lm::config::{Config, Idle};
    /// let idle = Config::default().idle();
    /// assert!(idle.contains(&Idle { section: "training", name: "warmup", purpose: "schedule cosine" }));
    /// assert!(!idle.iter().any(|of| of.name == "lr"));
    /// ```
    pub fn idle(&self) -> Vec<Idle> {
        let Self { data, model, dropout, training } = self;
        [of_data(data), of_model(model), of_dropout(dropout, model), of_training(training)].concat()
    }
}

/// Of settings, each with whether it has an effect and what it is for, those that have none.
fn without<const N: usize>(
    section: &'static str,
    settings: [(&'static str, bool, &'static str); N],
) -> Vec<Idle> {
    let idle = settings.into_iter().filter(|(_, has_effect, _)| !has_effect);
    idle.map(|(name, _, purpose)| Idle { section, name, purpose }).collect()
}

fn of_data(data: &Data) -> Vec<Idle> {
    let made = data.tokenizer.is_empty();
    without(
        "data",
        [
            (
                "max_vocab",
                made && data.tokens != "byte",
                "a vocabulary that is made of words, letters or pieces",
            ),
            ("holdout", data.valid.is_empty() && data.first == 0, "measuring without --valid and --first"),
        ],
    )
}

fn of_model(model: &Model) -> Vec<Idle> {
    let drawn = model.warm_start.is_empty();
    without(
        "model",
        [
            (
                "hidden",
                model.layers > 1 || model.last == 0,
                "layers below the last, which has a size of its own",
            ),
            ("init", drawn, "weights that are drawn"),
            ("init_range", drawn && model.init == "uniform", "init uniform"),
        ],
    )
}

fn of_dropout(rates: &Rates, model: &Model) -> Vec<Idle> {
    let drops = rates.input > 0.0 || rates.between > 0.0 || rates.output > 0.0;
    without(
        "dropout",
        [
            ("between", model.layers > 1, "more layers than one"),
            ("locked", drops, "dropout at the ends or between layers"),
        ],
    )
}

fn of_training(training: &Training) -> Vec<Idle> {
    let rule = training.rule.as_str();
    let (sgd, adam) = (rule == "sgd", matches!(rule, "adam" | "adamw"));
    let divides = matches!(training.schedule.as_str(), "plateau" | "decay");
    without(
        "training",
        [
            ("momentum", sgd, "rule sgd"),
            ("nesterov", sgd && training.momentum > 0.0, "rule sgd with momentum"),
            ("beta1", adam, "rules adam and adamw"),
            ("beta2", !sgd, "rules adam, adamw and rms-prop"),
            ("decoupled", training.decay > 0.0 && rule != "adamw", "decay with another rule than adamw"),
            ("divide", divides, "schedules plateau and decay"),
            ("after", training.schedule == "decay", "schedule decay"),
            ("warmup", training.schedule == "cosine", "schedule cosine"),
            ("patience", training.average != "never", "averages after and nt-asgd"),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a training is made of, with a setting of it changed.
    fn trainer(config: &Config, name: &str, value: &str) -> String {
        format!("{:?}", config.with("training", name, value).unwrap().trainer(100).unwrap())
    }

    /// All words that a setting of a training may be, each of which its comment has.
    fn words(name: &str) -> Vec<String> {
        let none = Config::default().with("training", name, "?").unwrap().trainer(1).unwrap_err().to_string();
        let (_, words) = none.split_once("expected ").unwrap();
        let words: Vec<String> = words.split_once(", got").unwrap().0.split(", ").map(Into::into).collect();
        let setting = Config::settings().unwrap().into_iter().find(|setting| setting.name == name).unwrap();
        assert!(words.iter().all(|word| setting.about.contains(word)), "{}: {words:?}", setting.about);
        words
    }

    #[test]
    fn what_is_called_idle_changes_nothing_and_all_else_does() {
        const OTHERS: [(&str, &str); 9] = [
            ("momentum", "0.25"),
            ("nesterov", "true"),
            ("beta1", "0.5"),
            ("beta2", "0.5"),
            ("decoupled", "true"),
            ("divide", "3.5"),
            ("after", "17"),
            ("warmup", "9"),
            ("patience", "11"),
        ];
        let mut seen = 0;
        let (schedules, averages) = (words("schedule"), words("average"));
        assert!(schedules.len() >= averages.len());
        for rule in &words("rule") {
            for (schedule, average) in schedules.iter().zip(averages.iter().cycle()) {
                for (momentum, decay) in [("0", "0"), ("0.5", "0.1")] {
                    let mut config = Config::default();
                    for (name, value) in [
                        ("rule", rule.as_str()),
                        ("schedule", schedule.as_str()),
                        ("average", average.as_str()),
                        ("momentum", momentum),
                        ("decay", decay),
                    ] {
                        config = config.with("training", name, value).unwrap();
                    }
                    let as_it_is = format!("{:?}", config.trainer(100).unwrap());
                    for (name, value) in OTHERS {
                        if (name, rule.as_str(), momentum) == ("nesterov", "sgd", "0") {
                            // It is taken in, and looks ahead by nothing.
                            continue;
                        }
                        let idle = config.idle().iter().any(|of| of.name == name);
                        let same = trainer(&config, name, value) == as_it_is;
                        assert_eq!(
                            idle, same,
                            "{name} with {rule}, {schedule}, {average}, {momentum}, {decay}"
                        );
                        seen += usize::from(idle);
                    }
                }
            }
        }
        assert!(seen > 50, "{seen}");
        // No other setting of a training is ever idle.
        let of_training = |of: &Idle| of.section == "training";
        let known = |of: Idle| OTHERS.iter().any(|(name, _)| *name == of.name);
        assert!(Config::default().idle().into_iter().filter(of_training).all(known));
    }
}
