//! Queries, tables and histories, drawn from a grammar.
//!
//! ```text
//!   Choices ─► tables (schema) ─┬─► history: rows that come and go, step by step
//!                               └─► query (select ─ from ─ condition ─ expression) ─► text
//! ```
//!
//! What is drawn has one answer, and nothing in it fails: every expression knows how large its
//! value can be and is computed with only where its type holds the result; nothing is divided by
//! what can be zero; where rows are counted off, their order is total. All else is left to chance.
//!
//! It makes texts and knows nothing of what they are asked of, so that the tests of whole servers
//! can ask PostgreSQL the same. Those who answer differ in a few places only: see [`Reader`].
//!
//! Reading order: `choice`, `value`, `schema`, `expression`, `condition`, `from`, `select`.

pub mod choice;
mod condition;
mod expression;
mod from;
pub mod schema;
mod select;
pub mod value;

pub use select::{condition, query};

use choice::Choices;
use schema::Table;
use value::Type;

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// A view, or Postgres.
    Postgres,
    /// DataFusion over the rows as they are. It tells 0.0 from −0.0, so that it must not see the
    /// latter, and takes the greatest finite number for the least of infinities alone.
    Batch,
}

/// What an alternative begins with: `\u{1}` text for Postgres `\u{2}` text for a batch `\u{3}`.
const BEGIN: char = '\u{1}';
const OR: char = '\u{2}';
const END: char = '\u{3}';

fn either(postgres: &str, batch: &str) -> String {
    format!("{BEGIN}{postgres}{OR}{batch}{END}")
}

/// The text for one of the readers.
pub fn text(query: &str, reader: Reader) -> String {
    let mut text = String::new();
    // For each alternative that is open: whether its second part has begun.
    let mut open: Vec<bool> = Vec::new();
    for letter in query.chars() {
        match letter {
            BEGIN => open.push(false),
            OR => *open.last_mut().expect("an alternative is open") = true,
            END => {
                open.pop().expect("an alternative is open");
            }
            _ if open
                .iter()
                .all(|&is_second| is_second == (reader == Reader::Batch)) =>
            {
                text.push(letter);
            }
            _ => {}
        }
    }
    text
}

/// An expression: what it is called in a text, and what is known of its values.
#[derive(Clone, Debug)]
pub(crate) struct Expr {
    text: String,
    of: Type,
    /// The greatest magnitude of a number.
    bound: i128,
}

/// Where a query stands that is being made.
struct Grammar<'a> {
    choices: &'a mut Choices,
    tables: &'a [Table],
    /// Named queries that can stand in FROM: their names and columns, by name.
    named: Vec<(String, Vec<Expr>)>,
    /// How many SELECTs may still be made.
    selects: usize,
    /// The last number given to a relation or column.
    last: usize,
    /// Columns may be the outer query's.
    is_in_subquery: bool,
    /// Only what Postgres knows, too.
    is_shared: bool,
}

impl Grammar<'_> {
    fn number(&mut self) -> usize {
        self.last += 1;
        self.last
    }

    /// Whether another SELECT may be made; then there is one less.
    fn can_select(&mut self) -> bool {
        let can = self.selects > 0;
        self.selects -= usize::from(can);
        can
    }
}

#[test]
fn an_alternative_is_read_by_one_of_both() {
    let inner = either("a", "b");
    let whole = format!("x{}y", either(&format!("({inner})"), &format!("[{inner}]")));
    assert_eq!(text(&whole, Reader::Postgres), "x(a)y");
    assert_eq!(text(&whole, Reader::Batch), "x[b]y");
}
