//! The dialect: Postgres, with table versions where a statement uses them and a bounded parser.
//!
//! It differs from the library's Postgres dialect in five points, each for a reason:
//!
//! - `FOR SYSTEM_TIME AS OF` is read after a table name, but only in statements that contain the
//!   word `SYSTEM_TIME`: the library's switch also makes `AT`, `BEFORE` and `CHANGES` special
//!   there, and those are good table aliases.
//! - Argument names are identifiers, not expressions: the library finds `expression => value` by
//!   parsing every argument twice, which doubles the work with every level of nested calls.
//! - `x NOT NULL` is no operator (it is none in Postgres), so `DEFAULT 1 NOT NULL` is a default
//!   and a constraint.
//! - `a IS [NOT] DISTINCT FROM b AND c` ends before AND: the library takes all that follows for the
//!   right side.
//! - Beginning an expression costs one of a fixed number of attempts. Backtracking is exponential
//!   for some malformed texts; they run out of attempts instead of time.

use std::any::TypeId;
use std::cell::Cell;

use datafusion::sql::sqlparser::ast::Expr;
use datafusion::sql::sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

const POSTGRES: PostgreSqlDialect = PostgreSqlDialect {};

/// The dialect of one statement; it lives as long as its parser.
#[derive(Debug)]
pub(super) struct StatementDialect {
    has_table_versions: bool,
    attempts_left: Cell<usize>,
}

impl StatementDialect {
    /// `attempts` bounds how often the parser may begin an expression.
    pub fn new(tokens: &[TokenWithSpan], attempts: usize) -> Self {
        let has_table_versions = tokens
            .iter()
            .any(|token| is_word(&token.token, Keyword::SYSTEM_TIME));
        StatementDialect {
            has_table_versions,
            attempts_left: Cell::new(attempts),
        }
    }

    /// Whether the parser was stopped because it began too many expressions.
    pub fn is_exhausted(&self) -> bool {
        self.attempts_left.get() == 0
    }
}

fn is_word(token: &Token, keyword: Keyword) -> bool {
    matches!(token, Token::Word(word) if word.keyword == keyword)
}

impl Dialect for StatementDialect {
    // What is ours.

    fn supports_table_versioning(&self) -> bool {
        self.has_table_versions
    }

    fn supports_named_fn_args_with_expr_name(&self) -> bool {
        false
    }

    fn supports_match_recognize(&self) -> bool {
        true
    }

    fn get_next_precedence(&self, parser: &Parser) -> Option<Result<u8, ParserError>> {
        let [first, second] = parser.peek_tokens_ref();
        if is_word(&first.token, Keyword::NOT) && is_word(&second.token, Keyword::NULL) {
            return Some(Ok(self.prec_unknown()));
        }
        POSTGRES.get_next_precedence(parser)
    }

    fn parse_infix(
        &self,
        parser: &mut Parser,
        left: &Expr,
        precedence: u8,
    ) -> Option<Result<Expr, ParserError>> {
        const NOT_DISTINCT: [Keyword; 4] =
            [Keyword::IS, Keyword::NOT, Keyword::DISTINCT, Keyword::FROM];
        const DISTINCT: [Keyword; 3] = [Keyword::IS, Keyword::DISTINCT, Keyword::FROM];
        let of = match () {
            () if parser.parse_keywords(&NOT_DISTINCT) => Expr::IsNotDistinctFrom,
            () if parser.parse_keywords(&DISTINCT) => Expr::IsDistinctFrom,
            () => return None,
        };
        let right = parser.parse_subexpr(precedence);
        Some(right.map(|right| of(Box::new(left.clone()), Box::new(right))))
    }

    fn parse_prefix(&self, _: &mut Parser) -> Option<Result<Expr, ParserError>> {
        match self.attempts_left.get().checked_sub(1) {
            Some(left) if left > 0 => {
                self.attempts_left.set(left);
                None
            }
            _ => {
                self.attempts_left.set(0);
                // The one error that the parser's own backtracking hands through.
                Some(Err(ParserError::RecursionLimitExceeded))
            }
        }
    }

    // What is Postgres': the parser asks some questions by the dialect's identity and the rest by
    // these methods: those that the library's dialect overrides, less what only statements use that
    // we read ourselves, XML, optimizer hints, and an alias behind `*`.

    fn dialect(&self) -> TypeId {
        TypeId::of::<PostgreSqlDialect>()
    }

    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        POSTGRES.identifier_quote_style(identifier)
    }

    fn is_delimited_identifier_start(&self, character: char) -> bool {
        POSTGRES.is_delimited_identifier_start(character)
    }

    fn is_identifier_start(&self, character: char) -> bool {
        POSTGRES.is_identifier_start(character)
    }

    fn is_identifier_part(&self, character: char) -> bool {
        POSTGRES.is_identifier_part(character)
    }

    fn is_reserved_for_identifier(&self, keyword: Keyword) -> bool {
        POSTGRES.is_reserved_for_identifier(keyword)
    }

    fn is_custom_operator_part(&self, character: char) -> bool {
        POSTGRES.is_custom_operator_part(character)
    }

    fn prec_value(&self, precedence: Precedence) -> u8 {
        POSTGRES.prec_value(precedence)
    }

    fn supports_unicode_string_literal(&self) -> bool {
        true
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_group_by_expr(&self) -> bool {
        true
    }

    fn allow_extract_custom(&self) -> bool {
        true
    }

    fn allow_extract_single_quotes(&self) -> bool {
        true
    }

    fn supports_factorial_operator(&self) -> bool {
        true
    }

    fn supports_bitwise_shift_operators(&self) -> bool {
        true
    }

    fn supports_named_fn_args_with_colon_operator(&self) -> bool {
        true
    }

    fn supports_empty_projections(&self) -> bool {
        true
    }

    fn supports_nested_comments(&self) -> bool {
        true
    }

    fn supports_string_escape_constant(&self) -> bool {
        true
    }

    fn supports_numeric_literal_underscores(&self) -> bool {
        true
    }

    fn supports_array_typedef_with_brackets(&self) -> bool {
        true
    }

    fn supports_geometric_types(&self) -> bool {
        true
    }

    fn supports_notnull_operator(&self) -> bool {
        true
    }

    fn supports_interval_options(&self) -> bool {
        true
    }

    fn supports_insert_table_alias(&self) -> bool {
        true
    }

    fn supports_comma_separated_trim(&self) -> bool {
        true
    }
}
