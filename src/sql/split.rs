//! Splits a script on `;`, leaving strings, quoted names, dollar quotes and comments alone.
//!
//! The scanner knows only where a token ends, not what it means, and never fails: an unterminated
//! string reaches to the end of the script, where the tokenizer reports it with its place. It
//! also counts tokens, so that a hostile text is refused before anything is allocated for it.
//!
//! ```text
//! -- bids;            SELECT ';' ; /* ; */ ;  SELECT $$;$$ AS a
//!                     ~~~~~~~~~~              ~~~~~~~~~~~~~~~~~   two statements
//! ```

/// One statement of a script: byte range of its text, without what surrounds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub start: usize,
    pub end: usize,
    /// Tokens, or a little more; white space is counted, because the tokenizer keeps it.
    pub tokens: usize,
}

/// The statements of `script` in order; pieces without a token are left out.
pub(super) fn split(script: &str) -> Vec<Piece> {
    let mut scanner = Scanner {
        bytes: script.as_bytes(),
        at: 0,
    };
    let mut pieces = Vec::new();
    let mut piece: Option<Piece> = None;
    while let Some(first) = scanner.peek(0) {
        let start = scanner.at;
        if first == b';' {
            scanner.at += 1;
            pieces.extend(piece.take());
        } else if scanner.skip_blank() {
            if let Some(piece) = &mut piece {
                piece.tokens += scanner.at - start;
            }
        } else {
            scanner.skip_token(first);
            let piece = piece.get_or_insert(Piece {
                start,
                end: start,
                tokens: 0,
            });
            piece.tokens += 1;
            piece.end = scanner.at;
        }
    }
    pieces.extend(piece);
    pieces
}

/// Works on bytes: all that ends a token is ASCII, so every cut is between characters.
struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.bytes.get(self.at + ahead).copied()
    }

    fn starts_with(&self, text: &[u8]) -> bool {
        self.bytes[self.at..].starts_with(text)
    }

    fn skip_while(&mut self, mut wanted: impl FnMut(u8) -> bool) {
        while self.peek(0).is_some_and(&mut wanted) {
            self.at += 1;
        }
    }

    /// White space or one comment.
    fn skip_blank(&mut self) -> bool {
        if self.starts_with(b"--") {
            self.skip_while(|byte| byte != b'\n');
        } else if self.starts_with(b"/*") {
            self.skip_block_comment();
        } else if self.peek(0).is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.skip_while(|byte| byte.is_ascii_whitespace());
        } else {
            return false;
        }
        true
    }

    fn skip_block_comment(&mut self) {
        let mut depth = 0usize;
        while self.at < self.bytes.len() {
            if self.starts_with(b"/*") {
                depth += 1;
                self.at += 2;
            } else if self.starts_with(b"*/") {
                depth -= 1;
                self.at += 2;
                if depth == 0 {
                    return;
                }
            } else {
                self.at += 1;
            }
        }
    }

    fn skip_token(&mut self, first: u8) {
        match first {
            b'\'' => self.skip_quoted(b'\'', Backslash::Plain),
            b'"' => self.skip_quoted(b'"', Backslash::Plain),
            b'$' => self.skip_dollar(),
            _ if is_word(first) => {
                let start = self.at;
                self.skip_while(|byte| is_word(byte) || byte == b'$');
                let is_escape = self.at - start == 1 && matches!(first, b'e' | b'E');
                if is_escape && self.peek(0) == Some(b'\'') {
                    self.skip_quoted(b'\'', Backslash::Escapes);
                }
            }
            _ => self.at += 1,
        }
    }

    fn skip_quoted(&mut self, quote: u8, backslash: Backslash) {
        self.at += 1;
        while let Some(byte) = self.peek(0) {
            self.at += 1;
            if byte == b'\\' && backslash == Backslash::Escapes {
                self.at = (self.at + 1).min(self.bytes.len());
            } else if byte == quote {
                if self.peek(0) != Some(quote) {
                    return;
                }
                self.at += 1;
            }
        }
    }

    /// `$tag$ … $tag$`, or a parameter such as `$1`.
    fn skip_dollar(&mut self) {
        let start = self.at;
        self.at += 1;
        self.skip_while(is_word);
        if self.peek(0) != Some(b'$') {
            return;
        }
        self.at += 1;
        let tag = &self.bytes[start..self.at];
        let rest = &self.bytes[self.at..];
        let end = rest.windows(tag.len()).position(|window| window == tag);
        self.at = end.map_or(self.bytes.len(), |end| self.at + end + tag.len());
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Backslash {
    Plain,
    Escapes,
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(script: &str) -> Vec<&str> {
        split(script)
            .iter()
            .map(|piece| &script[piece.start..piece.end])
            .collect()
    }

    #[test]
    fn a_semicolon_inside_a_string_name_or_comment_does_not_split() {
        assert_eq!(
            texts("SELECT ';', \";\" -- ;\n; /* ; /* ; */ ; */ b"),
            ["SELECT ';', \";\"", "b"]
        );
        assert_eq!(
            texts("a $$;$$; $x$ ; $$ ; $x$; $1;"),
            ["a $$;$$", "$x$ ; $$ ; $x$", "$1"]
        );
        assert_eq!(
            texts(r"E'\';' ; 'a\'; 'b''; '"),
            [r"E'\';'", r"'a\'", "'b''; '"]
        );
        assert_eq!(texts("a$b;c$b;é';'"), ["a$b", "c$b", "é';'"]);
    }

    #[test]
    fn empty_statements_are_dropped_and_blanks_trimmed() {
        assert_eq!(
            texts(" ;; -- only a comment\n;\n /* x */ SELECT 1 /* y */ ; "),
            ["SELECT 1"]
        );
        assert!(texts("").is_empty());
    }

    #[test]
    fn what_is_unterminated_reaches_to_the_end() {
        assert_eq!(texts("a 'b; c"), ["a 'b; c"]);
        assert_eq!(texts("a /* b; c"), ["a"]);
        assert_eq!(texts("a $x$ b; c $"), ["a $x$ b; c $"]);
        assert_eq!(texts("E'\\"), ["E'\\"]);
    }

    #[test]
    fn tokens_are_counted_with_the_blanks_between_them() {
        assert_eq!(split("  a   b")[0].tokens, 5);
    }
}
