//! `rnn-lm plot`: how runs learnt, as a picture.

use super::noun::Noun;
use super::print;
use anyhow::{Context, Result, bail};
use clap::Args;
use plotters::prelude::*;
use rnn_core::border::file;
use rnn_lm::run::{METRICS, Run, quoted};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Draw how runs learnt
///
/// What each evaluation came to, over the tokens learnt from: perplexity of words and pieces, bits of characters and bytes. Thin
/// beside it, what it was while learning. Several runs come into one picture, to be compared.
#[derive(Debug, Args)]
#[command(after_long_help = "\
For example:
  rnn-lm plot runs/wide runs/deep --out wide-or-deep.svg")]
pub(super) struct Plot {
    /// The folders of the runs
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// The picture, an SVG; one that is there is replaced; - is standard output
    #[arg(long, short, value_name = "FILE", default_value = "plot.svg")]
    out: PathBuf,
}

/// Tokens learnt from, and a perplexity or bits.
type Point = (f64, f64);

/// What is drawn of a run.
struct Curve {
    name: String,
    measured: Vec<Point>,
    learning: Vec<Point>,
}

impl Plot {
    pub(super) fn run(self) -> Result<()> {
        self.check_name()?;
        let mut noun = None;
        let mut curves = Vec::new();
        for folder in &self.runs {
            let run = Run::open(folder)?;
            let of_this = Noun::of(&run.tokenizer);
            let of_all = *noun.get_or_insert(of_this);
            if of_this != of_all {
                bail!(
                    "{}: expected a run of {of_all}s, as those before it, got one of {of_this}s (a {of_this} says another \
                     amount: draw it in a picture of its own)",
                    folder.display()
                );
            }
            curves.push(Curve::of(folder, &run, of_this)?);
        }
        let Some(noun) = noun else { bail!("expected a run to draw, got none") };
        let svg = picture(&curves, noun)?;
        if self.is_standard_output() {
            return print(svg);
        }
        file::write(&self.out, svg.as_bytes()).context("--out")?;
        // Behind what went through a pipe nothing else is to come.
        if file::is_no_file(&self.out) { Ok(()) } else { print(self.out.display()) }
    }

    fn is_standard_output(&self) -> bool {
        self.out.as_os_str() == "-"
    }

    /// A picture under another ending would be opened as what it is not, or take the place of something else.
    fn check_name(&self) -> Result<()> {
        let is_svg = self.out.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("svg"));
        if is_svg || file::is_no_file(&self.out) || self.is_standard_output() {
            return Ok(());
        }
        bail!(
            "--out: expected a name that ends in .svg, or - for standard output, got {} (a browser shows an SVG, and other \
             programs make other pictures of it)",
            self.out.display()
        )
    }
}

impl Curve {
    fn of(folder: &Path, run: &Run, noun: Noun) -> Result<Self> {
        /// What is above it is no figure of a model that learns, and beside it no other could be told from the next.
        const MOST: f64 = 1e30;
        let lines = run.measured()?;
        let points = |what: &str| {
            let point = |line: &Value| {
                let figure = noun.figure(line[what].as_f64()?);
                Some((line["tokens"].as_f64()?, figure)).filter(|_| figure > 0.0 && figure < MOST)
            };
            lines.iter().filter_map(point).collect::<Vec<_>>()
        };
        let curve = Self {
            name: folder.display().to_string(),
            measured: points("valid_loss"),
            learning: points("train_loss"),
        };
        let most = curve.measured.len().max(curve.learning.len());
        if most == 0 {
            bail!(
                "{}: expected a run that was measured while it was trained, got one without {METRICS}, or with an empty one \
                 (`rnn-lm evaluate` measures any)",
                folder.display()
            );
        }
        if most < 2 {
            bail!(
                "{}: expected two evaluations at least, to draw a line between, got {most} (`rnn-lm resume {} --epochs N` makes \
                 it longer, --evaluate-every N measures more often)",
                folder.display(),
                quoted(folder)
            );
        }
        Ok(curve)
    }

    /// The name, and the lowest it came to.
    fn label(&self, noun: Noun) -> String {
        let (points, when) = match self.measured.is_empty() {
            true => (&self.learning, " while learning"),
            false => (&self.measured, ""),
        };
        let lowest = points.iter().map(|(_, figure)| *figure).fold(f64::INFINITY, f64::min);
        format!("{}: {}{when}", self.name, noun.short(lowest))
    }
}

/// All of it as the text of an SVG.
fn picture(curves: &[Curve], noun: Noun) -> Result<String> {
    /// Pixels: of the picture without names, and of a name.
    const HEIGHT: u32 = 480;
    const LINE: u32 = 20;
    /// Told apart by whoever sees colours otherwise, too (Okabe & Ito 2008).
    const COLOURS: [RGBColor; 7] = [
        RGBColor(0, 114, 178),
        RGBColor(213, 94, 0),
        RGBColor(0, 158, 115),
        RGBColor(204, 121, 167),
        RGBColor(230, 159, 0),
        RGBColor(86, 180, 233),
        RGBColor(0, 0, 0),
    ];
    let all = || curves.iter().flat_map(|curve| curve.measured.iter().chain(&curve.learning));
    let most = all().map(|(tokens, _)| *tokens).fold(1.0, f64::max);
    let (low, high) = all().fold((f64::INFINITY, 0.0), |(low, high), (_, figure)| {
        (f64::min(low, *figure), f64::max(high, *figure))
    });
    // What is twice as much is as far away, everywhere; the names stand above, where no line is.
    let (low, high) = (low * 0.97, high * 1.03);
    let names = f64::from(LINE * curves.len() as u32 + 16) / f64::from(HEIGHT);
    let top = high * (high / low).powf(names);
    let figures = (low..top).log_scale().with_key_points(ticks(low, high));
    let text = ("sans-serif", 14);
    let mut svg = String::new();
    {
        let area =
            SVGBackend::with_string(&mut svg, (800, HEIGHT + LINE * curves.len() as u32)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(16)
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..most, figures)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .x_desc(format!("{noun}s learnt from"))
            .y_desc(format!("{} (thin: while learning)", noun.measure()))
            .x_label_formatter(&|tokens| shortened(*tokens))
            .y_label_formatter(&|figure| rounded(*figure))
            .label_style(text)
            .axis_desc_style(text)
            .draw()?;
        for (curve, colour) in curves.iter().zip(COLOURS.iter().cycle()) {
            chart.draw_series(LineSeries::new(curve.learning.iter().copied(), colour.mix(0.35)))?;
            chart
                .draw_series(LineSeries::new(curve.measured.iter().copied(), colour.stroke_width(2)))?
                .label(curve.label(noun))
                .legend(|(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2)));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE)
            .label_font(text)
            .draw()?;
        area.present()?;
    }
    Ok(svg)
}

/// Round numbers between the two, for an axis of logarithms.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let between = |number: &f64| (low..=high).contains(number);
    let (first, last) = (low.log10().floor() as i32, high.log10().floor() as i32);
    // The further it reaches, the fewer of a decade.
    let (digits, every): (&[f64], usize) = match last - first {
        ..3 => (&[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0], 1),
        3..6 => (&[1.0, 3.0], 1),
        decades => (&[1.0], decades as usize / 6),
    };
    let of_decade = |decade| digits.iter().map(move |digit| digit * 10f64.powi(decade));
    let round: Vec<f64> = (first..=last).step_by(every).flat_map(of_decade).filter(between).collect();
    if round.len() > 3 {
        return round;
    }
    // They are close together: even steps, of which the smallest that gives no more than eight.
    let finest = (high - low).log10().floor() as i32 - 1;
    let steps = [1.0, 2.0, 5.0, 10.0, 20.0].map(|digit| digit * 10f64.powi(finest));
    let step = steps.into_iter().find(|step| (high - low) / step <= 8.0).unwrap_or(high - low);
    let first = (low / step).ceil() as i64;
    (first..first + 9).map(|i| i as f64 * step).filter(between).collect()
}

/// Without the dust of arithmetic.
fn rounded(figure: f64) -> String {
    format!("{}", (figure * 1e4).round() / 1e4)
}

/// 1500000 as 1.5M.
fn shortened(count: f64) -> String {
    let (by, name) = match count {
        _ if count >= 1e9 => (1e9, "G"),
        _ if count >= 1e6 => (1e6, "M"),
        _ if count >= 1e3 => (1e3, "k"),
        _ => (1.0, ""),
    };
    format!("{}{name}", (count / by * 100.0).round() / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_has_round_numbers_however_far_it_reaches() {
        for (low, high, want) in [
            (42.0, 480.0, vec![50.0, 70.0, 100.0, 150.0, 200.0, 300.0, 400.0]),
            (2.12, 2.51, vec![2.15, 2.2, 2.25, 2.3, 2.35, 2.4, 2.45, 2.5]),
            (113.0, 125.0, vec![114.0, 116.0, 118.0, 120.0, 122.0, 124.0]),
        ] {
            let got: Vec<String> = ticks(low, high).into_iter().map(rounded).collect();
            assert_eq!(got, want.into_iter().map(rounded).collect::<Vec<_>>());
        }
        for high in [1.0, 1.001, 1.3, 2.0, 9.0, 1e3, 1e6, 1e300] {
            let ticks = ticks(0.99, high);
            assert!((3..22).contains(&ticks.len()) && ticks.is_sorted(), "{high}: {ticks:?}");
        }
    }

    #[test]
    fn counts_are_short() {
        let of = [0.0, 950.0, 1500.0, 2e6, 1.25e9].map(shortened);
        assert_eq!(of, ["0", "950", "1.5k", "2M", "1.25G"]);
    }
}
