//! The King James text that comes with a crate.

use anyhow::{Context, Result};
use bible_lib::{Bible, BibleLookup, Translation};

/// The verses of each book, from Genesis to Revelation: lower-case, every mark a token of its own.
pub fn books() -> Result<Vec<Vec<String>>> {
    read().context("the King James text of the crate bible-lib")
}

fn read() -> Result<Vec<Vec<String>>> {
    let bible = Bible::new(Translation::KingJames).map_err(odd)?;
    let mut books = Vec::new();
    for book in bible.get_sorted_books() {
        let mut of_book = Vec::new();
        let mut chapters = bible.get_chapters(&book).map_err(odd)?;
        chapters.sort_unstable();
        for chapter in chapters {
            let mut verses = bible.get_verses(&book, chapter).map_err(odd)?;
            verses.sort_unstable();
            for verse in verses {
                let verse = bible.get_verse(BibleLookup::new(&book, chapter, verse), false).map_err(odd)?;
                of_book.push(tokens(&verse));
            }
        }
        books.push(of_book);
    }
    Ok(books)
}

/// That crate's errors are no `std::error::Error`.
fn odd(error: impl std::fmt::Debug) -> anyhow::Error {
    anyhow::anyhow!("{error:?}")
}

/// Words and marks with one space between them; the brackets around words that the translators added are dropped.
fn tokens(verse: &str) -> String {
    let lower = verse.to_lowercase();
    let letters: Vec<char> = lower.chars().filter(|c| !matches!(c, '[' | ']')).collect();
    let mut spaced = String::new();
    for (i, &c) in letters.iter().enumerate() {
        let inside = |c: Option<&char>| c.is_some_and(|c| c.is_alphabetic());
        let apostrophe =
            matches!(c, '\'' | '’') && i > 0 && inside(letters.get(i - 1)) && inside(letters.get(i + 1));
        if c.is_alphabetic() || apostrophe || c.is_whitespace() {
            spaced.push(c);
        } else {
            spaced.extend([' ', c, ' ']);
        }
    }
    spaced.split_whitespace().collect::<Vec<_>>().join(" ")
}
