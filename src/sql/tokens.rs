//! Prepares a statement's tokens for the library's parser, which knows neither Flink nor EMIT.
//!
//! Five changes are made to the token stream, because the tree cannot be had without them; every
//! inserted token has the place of the one it stands for, so errors still point into the text.
//!
//! **Clause ends.** A query would read the clause behind it as its own (`FROM bids EMIT …` makes
//! `emit` an alias, `FROM bids WITH (…)` table hints), so a `;` is put before it. It ends the
//! query, and [`Cursor::query`](crate::sql::cursor::Cursor::query) takes it away.
//!
//! **Arguments of window functions.** What only Flink writes becomes what everybody parses:
//!
//! ```text
//! TUMBLE(TABLE bids, …)                    TUMBLE((SELECT * FROM bids), …)
//! SESSION(bids PARTITION BY a, b, ts, …)   SESSION(bids, partition_by => a, b, ts, …)
//! ```
//!
//! **`TABLE name` as a query** is `SELECT * FROM name`: the parser reads three tokens for the name
//! whatever they are, and forgets its quotes.
//!
//! **Table versions behind an alias.** The parser reads `rates FOR SYSTEM_TIME AS OF x AS r`, but
//! some people, and the library's own printer, put the alias first; it is moved behind.
//!
//! **ASOF joins** of all forms become the one that the parser reads: see [`crate::sql::as_of`].

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan, Word};

use crate::sql::as_of::AsOfJoin;
use crate::sql::window::WindowKind;

/// The clauses that may stand behind a query in one kind of statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trailing {
    /// `EMIT …`, `WITH [NO] DATA`: views, and queries by mistake.
    Emit,
    /// `EMIT …`, `WITH (…)`, `FORMAT … ENCODE …`: sinks.
    Sink,
}

/// The tokens to parse, from the tokens of the text.
pub(super) fn prepare(tokens: &[TokenWithSpan], trailing: Trailing) -> Vec<TokenWithSpan> {
    let mut prepared = Vec::with_capacity(tokens.len() + 8);
    // For each open parenthesis, whether it holds the arguments of a window function.
    let mut open: Vec<bool> = Vec::new();
    let mut as_of = AsOfJoins::default();
    let mut index = 0;
    while let Some(token) = tokens.get(index) {
        let in_arguments = open.last() == Some(&true);
        let rest = &tokens[index..];
        match &token.token {
            Token::LParen => {
                let previous = index.checked_sub(1).map(|index| &tokens[index].token);
                open.push(previous.is_some_and(is_window_function));
            }
            Token::RParen => {
                as_of.close(open.len(), token.span, &mut prepared);
                open.pop();
            }
            Token::Word(_) if is_words(rest, &["ASOF"]) && as_of.begins(rest, open.len()) => {
                prepared.push(token.clone());
                // What is said between ASOF and JOIN is said in the parentheses.
                index += rest.iter().position(is_join).unwrap_or(1);
                continue;
            }
            Token::Word(_) if as_of.meets(rest, open.len(), &mut prepared) => {
                // Its parentheses are open.
                open.push(false);
                index += 2;
                continue;
            }
            Token::Word(_) if open.is_empty() && ends_query(rest, trailing) => {
                prepared.push(at(token.span, Token::SemiColon));
            }
            Token::Word(_) if in_arguments && is_words(rest, &["PARTITION", "BY"]) => {
                prepared.push(at(token.span, Token::Comma));
                prepared.push(at(token.span, word("partition_by")));
                prepared.push(at(token.span, Token::RArrow));
                index += 2;
                continue;
            }
            Token::Word(_) if is_aliased_version(rest) => {
                index += push_version(&mut prepared, rest);
                continue;
            }
            Token::Word(_) if !in_arguments && is_table_query(index, tokens) => {
                prepared.push(at(token.span, word("SELECT")));
                prepared.push(at(token.span, Token::Mul));
                prepared.push(at(token.span, word("FROM")));
                index += 1;
                continue;
            }
            Token::Word(_) if in_arguments && is_words(rest, &["TABLE"]) => {
                index += 1 + push_table(&mut prepared, rest);
                continue;
            }
            _ => {}
        }
        prepared.push(token.clone());
        index += 1;
    }
    prepared
}

fn ends_query(rest: &[TokenWithSpan], trailing: Trailing) -> bool {
    let is_emit = is_words(rest, &["EMIT", "ON"]) || is_words(rest, &["EMIT", "EVERY"]);
    let is_options =
        || is_words(rest, &["WITH"]) && matches!(rest.get(1), Some(t) if t.token == Token::LParen);
    // Only as the last words: `data` may also be the name of a WITH query.
    let is_data = || {
        rest.len() == 2 && is_words(rest, &["WITH", "DATA"])
            || rest.len() == 3 && is_words(rest, &["WITH", "NO", "DATA"])
    };
    let is_format =
        || is_words(rest, &["FORMAT"]) && is_words(rest.get(2..).unwrap_or(&[]), &["ENCODE"]);
    match trailing {
        Trailing::Emit => is_emit || is_data(),
        Trailing::Sink => is_emit || is_options() || is_format(),
    }
}

/// Whether TABLE stands where a query begins, and a name follows it.
fn is_table_query(index: usize, tokens: &[TokenWithSpan]) -> bool {
    let begins_query = match index.checked_sub(1).map(|before| &tokens[before].token) {
        None | Some(Token::LParen | Token::RParen) => true,
        Some(Token::Word(before)) => [
            "UNION",
            "EXCEPT",
            "INTERSECT",
            "ALL",
            "DISTINCT",
            "AS",
            "EXPLAIN",
            "ANALYZE",
        ]
        .iter()
        .any(|word| before.quote_style.is_none() && before.value.eq_ignore_ascii_case(word)),
        Some(_) => false,
    };
    let rest = &tokens[index..];
    let is_named = matches!(rest.get(1), Some(name) if matches!(name.token, Token::Word(_)));
    begins_query && is_named && is_words(rest, &["TABLE"])
}

/// Writes `TABLE name` as a subquery and returns how many tokens the name has. Before a
/// parenthesis, `TABLE (SELECT …)`, the word is left out.
fn push_table(prepared: &mut Vec<TokenWithSpan>, rest: &[TokenWithSpan]) -> usize {
    let name = rest[1..]
        .iter()
        .take_while(|token| matches!(token.token, Token::Word(_) | Token::Period))
        .scan(false, |previous_is_word, token| {
            // `bids PARTITION`: two words in a row end the name.
            let is_word = matches!(token.token, Token::Word(_));
            let goes_on = is_word != *previous_is_word;
            *previous_is_word = is_word;
            goes_on.then_some(token)
        });
    let name: Vec<TokenWithSpan> = name.cloned().collect();
    if !name.is_empty() {
        let span = rest[0].span;
        prepared.push(at(span, Token::LParen));
        prepared.push(at(span, word("SELECT")));
        prepared.push(at(span, Token::Mul));
        prepared.push(at(span, word("FROM")));
        prepared.extend_from_slice(&name);
        prepared.push(at(span, Token::RParen));
    }
    name.len()
}

/// The ASOF joins that are being read.
#[derive(Default)]
struct AsOfJoins {
    /// Those whose condition has not come.
    waiting: Vec<AsOfWaiting>,
    /// How deep the parentheses of conditions are that have one more inside.
    doubled: Vec<usize>,
}

struct AsOfWaiting {
    depth: usize,
    is_outer: bool,
    /// Other joins since, whose ON comes first.
    joins: usize,
}

impl AsOfJoins {
    /// Whether `ASOF [INNER | LEFT [OUTER]] JOIN` stands here.
    fn begins(&mut self, rest: &[TokenWithSpan], depth: usize) -> bool {
        let is_inner =
            is_words(rest, &["ASOF", "JOIN"]) || is_words(rest, &["ASOF", "INNER", "JOIN"]);
        let is_outer = is_words(rest, &["ASOF", "LEFT", "JOIN"])
            || is_words(rest, &["ASOF", "LEFT", "OUTER", "JOIN"]);
        if is_inner || is_outer {
            self.waiting.push(AsOfWaiting {
                depth,
                is_outer,
                joins: 0,
            });
        }
        is_inner || is_outer
    }

    /// Takes note of a word that concerns the join that waits: before its ON the condition is put
    /// in. True where the condition is written and its parentheses have been opened here.
    fn meets(
        &mut self,
        rest: &[TokenWithSpan],
        depth: usize,
        prepared: &mut Vec<TokenWithSpan>,
    ) -> bool {
        while self.waiting.last().is_some_and(|join| join.depth > depth) {
            self.waiting.pop();
        }
        let span = rest[0].span;
        let Some(join) = self.waiting.last_mut().filter(|join| join.depth == depth) else {
            return false;
        };
        let kind = || {
            let kind = AsOfJoin::kind(join.is_outer).to_string();
            at(span, Token::SingleQuotedString(kind))
        };
        let is_behind_as_of = matches!(prepared.last(), Some(before)
            if is_words(std::slice::from_ref(before), &["ASOF"]));
        if is_words(rest, &["JOIN"]) && !is_behind_as_of {
            join.joins += 1;
        } else if is_words(rest, &["ON"]) || is_words(rest, &["USING"]) {
            if join.joins > 0 {
                join.joins -= 1;
                return false;
            }
            prepared.push(at(span, word("MATCH_CONDITION")));
            prepared.push(at(span, Token::LParen));
            prepared.push(kind());
            prepared.push(at(span, Token::RParen));
            self.waiting.pop();
        } else if join.joins == 0 && is_words(rest, &["MATCH_CONDITION"]) {
            let is_open = |at: usize| matches!(rest.get(at), Some(t) if t.token == Token::LParen);
            let is_kind = |at: usize| {
                matches!(rest.get(at).map(|token| &token.token),
                    Some(Token::SingleQuotedString(text)) if AsOfJoin::is_kind(text))
            };
            let is_done = is_open(1) && (is_kind(2) || is_open(2) && is_kind(3));
            if !is_open(1) || is_done {
                self.waiting.pop();
                return false;
            }
            prepared.push(rest[0].clone());
            prepared.push(at(span, Token::LParen));
            prepared.push(at(span, Token::LParen));
            prepared.push(kind());
            prepared.push(at(span, Token::Comma));
            self.waiting.pop();
            self.doubled.push(depth + 1);
            return true;
        }
        false
    }

    /// A parenthesis closes that was so deep.
    fn close(&mut self, depth: usize, span: Span, prepared: &mut Vec<TokenWithSpan>) {
        if self.doubled.last() == Some(&depth) {
            self.doubled.pop();
            prepared.push(at(span, Token::RParen));
        }
    }
}

fn is_join(token: &TokenWithSpan) -> bool {
    is_words(std::slice::from_ref(token), &["JOIN"])
}

/// `AS r FOR SYSTEM_TIME AS OF`.
fn is_aliased_version(rest: &[TokenWithSpan]) -> bool {
    is_words(rest, &["AS"])
        && matches!(
            rest.get(1),
            Some(TokenWithSpan {
                token: Token::Word(_),
                ..
            })
        )
        && is_words(
            rest.get(2..).unwrap_or(&[]),
            &["FOR", "SYSTEM_TIME", "AS", "OF"],
        )
}

/// Writes the version and then the alias; returns how many tokens that are.
fn push_version(prepared: &mut Vec<TokenWithSpan>, rest: &[TokenWithSpan]) -> usize {
    let (alias, version) = rest.split_at(2);
    let mut depth = 0usize;
    let length = version.iter().skip(4).take_while(|token| {
        match &token.token {
            Token::LParen => depth += 1,
            Token::RParen if depth == 0 => return false,
            Token::RParen => depth -= 1,
            Token::Comma if depth == 0 => return false,
            Token::Word(word) if depth == 0 => return !ends_version(word.keyword),
            _ => {}
        }
        true
    });
    let length = 4 + length.count();
    prepared.extend_from_slice(&version[..length]);
    prepared.extend_from_slice(alias);
    2 + length
}

/// Words that cannot be in the expression of a version, but behind it.
fn ends_version(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::ON
            | Keyword::USING
            | Keyword::JOIN
            | Keyword::INNER
            | Keyword::LEFT
            | Keyword::RIGHT
            | Keyword::FULL
            | Keyword::CROSS
            | Keyword::NATURAL
            | Keyword::ASOF
            | Keyword::WHERE
            | Keyword::GROUP
            | Keyword::HAVING
            | Keyword::QUALIFY
            | Keyword::WINDOW
            | Keyword::UNION
            | Keyword::INTERSECT
            | Keyword::EXCEPT
            | Keyword::ORDER
            | Keyword::LIMIT
            | Keyword::OFFSET
            | Keyword::FETCH
            | Keyword::FOR
            | Keyword::WITH
            | Keyword::RETURNING
    )
}

fn is_window_function(token: &Token) -> bool {
    matches!(token, Token::Word(word)
        if word.quote_style.is_none() && WindowKind::from_name(&word.value).is_some())
}

fn is_words(tokens: &[TokenWithSpan], words: &[&str]) -> bool {
    tokens.len() >= words.len()
        && tokens.iter().zip(words).all(|(token, expected)| {
            matches!(&token.token, Token::Word(word)
                if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(expected))
        })
}

fn at(span: Span, token: Token) -> TokenWithSpan {
    TokenWithSpan { token, span }
}

fn word(text: &str) -> Token {
    let keyword = match text {
        "SELECT" => Keyword::SELECT,
        "FROM" => Keyword::FROM,
        "MATCH_CONDITION" => Keyword::MATCH_CONDITION,
        _ => Keyword::NoKeyword,
    };
    Token::Word(Word {
        value: text.to_string(),
        quote_style: None,
        keyword,
    })
}
