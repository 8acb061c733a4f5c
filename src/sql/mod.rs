//! Text to statements, and back to text; nothing else.
//!
//! ```text
//! script ──split──► statement's text ──► tokens ──guard──► prepare ──► parse ──► Statement
//!          `;`                              too deep? 54001   EMIT, TABLE t    │      │
//!                                                                           rewrite   ▼
//!                                                            windows: one shape     to text
//! ```
//!
//! The grammar is ours where the library (`sqlparser`, the version DataFusion re-exports) has
//! none, and the library's for expressions, types, queries and writes. Invariants:
//!
//! - What is printed parses to an equal statement (the corpus in `testdata/` shows it for each).
//! - Every error has a SQLSTATE and a position in the script as the user sent it, in characters.
//! - No text can overflow the stack, hang the parser or cost memory beyond its bounds
//!   ([`crate::base::limits`]): such a text is refused with 54001.
//! - Names are folded here and nowhere else; queries keep the library's identifiers, which
//!   DataFusion folds in the same way.
//!
//! Read [`statement`] for what there is, [`parse`] for the grammar, [`window`] and [`rewrite`] for
//! what happens to queries, then the rest by need.

pub mod as_of;
pub mod clauses;
pub mod interval;
pub mod name;
pub mod session;
pub mod statement;
pub mod watch;
pub mod window;

mod cursor;
mod depth;
mod dialect;
mod group_window;
mod guard;
mod parse;
mod position;
mod print;
mod rewrite;
mod script;
mod split;
mod syntax_error;
mod tokens;
mod write_clauses;

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod limits_tests;

/// The library's trees: expressions, queries, types.
pub use datafusion::sql::sqlparser::ast;

pub use interval::Interval;
pub use name::ObjectName;
pub use position::Position;
pub use script::{Parsed, parse_script, parse_single};
pub use statement::{Statement, Unsupported};
