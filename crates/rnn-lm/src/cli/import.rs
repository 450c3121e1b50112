//! `rnn-lm import`: a run out of weights from elsewhere.

use super::Session;
use super::noun::Noun;
use super::settings::Base;
use super::train::name_files;
use anyhow::{Context, Result, bail};
use clap::{ArgMatches, Args, ValueEnum};
use rnn_lm::config::Config;
use rnn_lm::data::{TextFile, Unknown};
use rnn_lm::model::CellKind;
use rnn_lm::run::{Begun, Imported, Layout, Run, Texts, quoted, vacant};
use rnn_lm::tokenizer::{Options, Tokenizer, Unit};
use std::path::PathBuf;

/// Make a run out of weights from elsewhere
///
/// The vocabulary is that of the corpus, in the order in which its tokens appear first: the book's order, and that of most
/// scripts that build one. Only its size can be checked: weights of another order give an absurd perplexity, and `--tokenizer`
/// then names the right one. Sizes are seen from the weights. `rnn-lm train TEXT --warm-start RUN` trains them further.
#[derive(Debug, Args)]
pub(super) struct Import {
    /// The weights: .safetensors, or .pt of PyTorch
    weights: PathBuf,
    /// How they are laid out
    #[arg(long, value_enum)]
    layout: Named,
    /// The text that they were trained on
    #[arg(long, value_name = "FILE")]
    corpus: PathBuf,
    /// The folder of the run
    #[arg(long, short, value_name = "RUN")]
    out: PathBuf,
    #[command(flatten)]
    base: Base,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Named {
    /// embed_W, lstm_Wx (or rnn_Wx), lstm_Wh, lstm_b, affine_W, affine_b
    Book,
    /// An embedding, a recurrent network and a linear layer, whatever they are called; nn.RNN only with tanh
    Pytorch,
}

impl Import {
    pub(super) fn run(self, session: &Session, flags: &ArgMatches) -> Result<()> {
        vacant(&self.out)?;
        let text = Texts::to_learn_from(&self.corpus).context("--corpus")?;
        let settings = self.base.settings(Some(&text), flags)?;
        let any_number = settings.is_suggested("data", "max_vocab");
        let mut config = settings.config;
        let layout = match self.layout {
            Named::Book => Layout::Book,
            Named::Pytorch => Layout::Pytorch,
        };
        let Imported { model, vocabulary, tensors } = Imported::read(&self.weights, layout)?;
        config.model = model;
        name_files(&mut config, Some(&self.corpus), None)?;
        let tokenizer = match config.data.tokenizer.is_empty() {
            true => tokenizer(&mut config, &text, (vocabulary, any_number))?,
            false => Texts { train: text, valid: None }.tokenizer(&config)?,
        };
        if tokenizer.len() != vocabulary {
            let (got, noun) = (tokenizer.len(), Noun::of(&tokenizer));
            match config.data.tokenizer.as_str() {
                "" => bail!(
                    "{}: expected a text whose vocabulary has {vocabulary} {noun}s, as that of the weights has, got {got} (is \
                     it the text that they were trained on? --tokens and --max-vocab say how it is cut, --tokenizer takes a \
                     vocabulary as it is)",
                    self.corpus.display(),
                ),
                file => bail!(
                    "{file}: expected a tokenizer of {vocabulary} {noun}s, as the weights have, got one of {got} (is it the \
                     one that they were trained with?)"
                ),
            }
        }
        let run = Run::new(&self.out, config, tokenizer);
        let begun = Begun::new(&self.out)?;
        run.write()?;
        run.save_tensors(tensors)?;
        begun.keep()?;
        if layout == Layout::Pytorch && run.config.model.cell == CellKind::Rnn.to_string() {
            session.say("note     of an nn.RNN the file does not say which nonlinearity it has: tanh is taken, which is nn.RNN's default");
        }
        session.say(format_args!("run      {}", self.out.display()));
        session.say(format_args!("measure  rnn-lm evaluate {} FILE", quoted(&self.out)));
        Ok(())
    }
}

/// That of a text, with or without `<unk>` and, where nobody said how many words, of all of them or of as many as `train` takes,
/// whichever gives a vocabulary of this size; the settings say which.
fn tokenizer(
    config: &mut Config,
    text: &TextFile,
    (vocabulary, any_number): (usize, bool),
) -> Result<Tokenizer> {
    let bytes = text.read()?;
    let (said, unit) = (config.data.max_vocab, config.tokens()?.unit);
    let sizes = if any_number && unit == Unit::Word { vec![0, said] } else { vec![said] };
    let mut first = None;
    for size in sizes {
        config.data.max_vocab = size;
        let options = config.tokens()?;
        let other = if options.unknown == Unknown::Add { Unknown::Error } else { Unknown::Add };
        for unknown in [options.unknown, other] {
            let tokenizer = Tokenizer::train(&bytes, &Options { unknown, ..options })
                .with_context(|| text.path().display().to_string())?;
            if tokenizer.len() == vocabulary {
                return Ok(tokenizer);
            }
            first.get_or_insert(tokenizer);
        }
    }
    first.context("a vocabulary of some size")
}
