//! Rust text as the checks see it: tokens with their lines, comments and literals told apart, and
//! which of it is compiled only for tests.
//!
//! This is a lexer and not a parser: it knows where strings, characters, lifetimes and comments
//! end, how attributes and braces nest, and nothing else of the language. That is enough for every
//! check, and small enough to be tested here.

use std::ops::Range;

/// What a byte of a file belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Code,
    Comment,
    /// The inside of a string or character, its quotes included.
    Literal,
}

/// An identifier, keyword or number, a literal as `""`, or one character of punctuation (`::` is
/// one token).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    /// Counted from 1.
    pub line: usize,
    /// Whether it is compiled only for tests.
    pub is_test: bool,
}

/// A path such as `std::fs::File`, from `use` trees (each leaf is one path) and from expressions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    pub segments: Vec<String>,
    pub line: usize,
    pub is_test: bool,
    /// How many modules deep the path stands, the file's own place included.
    pub depth: usize,
}

/// One file.
pub struct Source {
    /// Relative to the top of the repository, with `/`.
    pub path: String,
    pub text: String,
    pub kinds: Vec<Kind>,
    pub tokens: Vec<Token>,
}

/// Words that begin an item, after which a comma does not end it.
const ITEM_WORDS: [&str; 15] = [
    "pub", "fn", "mod", "use", "struct", "enum", "union", "trait", "impl", "const", "static",
    "type", "unsafe", "async", "extern",
];

impl Source {
    pub fn parse(path: &str, text: &str) -> Source {
        let kinds = classify(text);
        let mut tokens = tokenize(text, &kinds);
        mark_tests(&mut tokens);
        Source {
            path: path.to_string(),
            text: text.to_string(),
            kinds,
            tokens,
        }
    }

    /// Declares the whole file to be test code.
    pub fn set_test(&mut self) {
        self.tokens
            .iter_mut()
            .for_each(|token| token.is_test = true);
    }

    /// The module that the file belongs to: the first folder or file under `src/`.
    pub fn module(&self) -> Option<&str> {
        let rest = self.path.strip_prefix("src/")?;
        let name = rest.split('/').next()?;
        match name.strip_suffix(".rs").unwrap_or(name) {
            "lib" | "main" => None,
            module => Some(module),
        }
    }

    /// How many modules deep the file stands: 0 for `lib.rs`, 1 for `a/mod.rs`, 2 for `a/b.rs`.
    fn depth(&self) -> usize {
        let rest = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let parts = rest.split('/').count();
        let is_front = ["mod.rs", "lib.rs", "main.rs"]
            .iter()
            .any(|name| rest.ends_with(name));
        if is_front { parts - 1 } else { parts }
    }

    /// The files' folder in which its `mod name;` are looked for.
    pub fn child_folder(&self) -> String {
        let folder = self.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let file = self.path.rsplit('/').next().unwrap_or_default();
        match file {
            "mod.rs" | "lib.rs" | "main.rs" => folder.to_string(),
            _ => self.path.trim_end_matches(".rs").to_string(),
        }
    }

    /// The names of `mod name;` that are compiled only for tests.
    pub fn test_children(&self) -> Vec<String> {
        let named = self
            .tokens
            .windows(3)
            .filter(|window| window[0].text == "mod" && window[2].text == ";" && window[1].is_test);
        named.map(|window| window[1].text.clone()).collect()
    }

    /// Lines with their number from 1 and the byte at which they start.
    pub fn lines(&self) -> impl Iterator<Item = (usize, usize, &str)> {
        let mut start = 0;
        self.text.split('\n').enumerate().map(move |(index, line)| {
            let at = start;
            start += line.len() + 1;
            (index + 1, at, line)
        })
    }

    /// Every path of the file.
    pub fn paths(&self) -> Vec<Path> {
        let depths = self.depths();
        let mut paths = Vec::new();
        let mut at = 0;
        while at < self.tokens.len() {
            let before = at.checked_sub(1).map(|i| self.tokens[i].text.as_str());
            if is_word(&self.tokens[at].text) && before != Some("::") {
                at = self.read_path(at, Vec::new(), &depths, &mut paths);
            } else if self.tokens[at].text == "::" && !before.is_some_and(ends_type) {
                // A path from the root of all crates: `::std::fs`.
                at += 1;
                if self
                    .tokens
                    .get(at)
                    .is_some_and(|token| is_word(&token.text))
                {
                    at = self.read_path(at, Vec::new(), &depths, &mut paths);
                }
            } else {
                at += 1;
            }
        }
        paths
    }

    /// Reads one path, or each leaf of a `use` tree, from token `at`; returns the token after it.
    fn read_path(
        &self,
        mut at: usize,
        mut segments: Vec<String>,
        depths: &[usize],
        paths: &mut Vec<Path>,
    ) -> usize {
        let (line, is_test) = (self.tokens[at].line, self.tokens[at].is_test);
        let depth = depths[at];
        let text = |at: usize| self.tokens.get(at).map(|token| token.text.as_str());
        loop {
            match text(at) {
                Some("{") => {
                    at += 1;
                    while let Some(next) = text(at) {
                        match next {
                            "}" => return at + 1,
                            "," => at += 1,
                            word if is_word(word) || word == "*" || word == "{" => {
                                at = self.read_path(at, segments.clone(), depths, paths);
                            }
                            _ => at += 1,
                        }
                    }
                    return at;
                }
                Some(word) if is_word(word) || word == "*" => segments.push(word.to_string()),
                _ => return at,
            }
            at += 1;
            let goes_on = text(at) == Some("::")
                && text(at + 1).is_some_and(|next| is_word(next) || next == "{" || next == "*");
            if !goes_on {
                paths.push(Path {
                    segments,
                    line,
                    is_test,
                    depth,
                });
                // `use a::b as c`: the new name is not a path.
                return if text(at) == Some("as") { at + 2 } else { at };
            }
            at += 1;
        }
    }

    /// For each token, how many modules deep it stands, counting `mod name { … }` around it.
    fn depths(&self) -> Vec<usize> {
        let mut open: Vec<bool> = Vec::new();
        let mut depth = self.depth();
        let mut depths = Vec::with_capacity(self.tokens.len());
        for (at, token) in self.tokens.iter().enumerate() {
            depths.push(depth);
            match token.text.as_str() {
                "{" => {
                    let is_module = at >= 2 && self.tokens[at - 2].text == "mod";
                    depth += usize::from(is_module);
                    open.push(is_module);
                }
                "}" => depth -= usize::from(open.pop().unwrap_or(false)),
                _ => {}
            }
        }
        depths
    }
}

/// Whether a token is an identifier or keyword.
pub fn is_word(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Whether a `::` after this token continues a type or path rather than begins one.
fn ends_type(text: &str) -> bool {
    is_word(text) && !matches!(text, "use" | "return" | "in" | "as" | "else") || text == ">"
}

/// Says for each byte what it belongs to.
fn classify(text: &str) -> Vec<Kind> {
    let bytes = text.as_bytes();
    let mut kinds = vec![Kind::Code; bytes.len()];
    let mut at = 0;
    while at < bytes.len() {
        let (kind, end) = match bytes[at] {
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                (Kind::Comment, find(bytes, at, b"\n").unwrap_or(bytes.len()))
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => (Kind::Comment, comment_end(bytes, at)),
            b'"' => (Kind::Literal, quoted_end(bytes, at, b'"')),
            b'r' if !continues_word(bytes, at) && raw_hashes(bytes, at).is_some() => {
                let hashes = raw_hashes(bytes, at).unwrap_or(0);
                (Kind::Literal, raw_end(bytes, at, hashes))
            }
            b'\'' => match character_end(text, at) {
                Some(end) => (Kind::Literal, end),
                // A lifetime or label.
                None => (Kind::Code, at + 1),
            },
            _ => (Kind::Code, at + 1),
        };
        kinds[at..end].fill(kind);
        at = end;
    }
    kinds
}

/// Whether the byte at `at` is inside a word: `br"…"` and `cr"…"` are raw strings, `bar"` is not.
fn continues_word(bytes: &[u8], at: usize) -> bool {
    let is_word_byte = |i: usize| bytes[i].is_ascii_alphanumeric() || bytes[i] == b'_';
    match at {
        0 => false,
        1 => is_word_byte(0) && !matches!(bytes[0], b'b' | b'c'),
        _ => {
            is_word_byte(at - 1) && (!matches!(bytes[at - 1], b'b' | b'c') || is_word_byte(at - 2))
        }
    }
}

fn find(bytes: &[u8], from: usize, wanted: &[u8]) -> Option<usize> {
    let rest = &bytes[from..];
    rest.windows(wanted.len())
        .position(|window| window == wanted)
        .map(|found| from + found)
}

/// Block comments nest.
fn comment_end(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0_usize;
    let mut at = start;
    while at < bytes.len() {
        match bytes.get(at..at + 2) {
            Some(b"/*") => {
                depth += 1;
                at += 2;
            }
            Some(b"*/") => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    bytes.len()
}

fn quoted_end(bytes: &[u8], start: usize, quote: u8) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// The number of hashes of a raw string that starts at the `r`; none if it is a word or `r#name`.
fn raw_hashes(bytes: &[u8], at: usize) -> Option<usize> {
    let hashes = bytes[at + 1..]
        .iter()
        .take_while(|&&byte| byte == b'#')
        .count();
    (bytes.get(at + 1 + hashes) == Some(&b'"')).then_some(hashes)
}

fn raw_end(bytes: &[u8], at: usize, hashes: usize) -> usize {
    let close: Vec<u8> = std::iter::once(b'"')
        .chain(std::iter::repeat_n(b'#', hashes))
        .collect();
    let inside = at + 2 + hashes;
    find(bytes, inside, &close).map_or(bytes.len(), |found| found + close.len())
}

/// The end of a character literal that starts at the quote; none for lifetimes.
fn character_end(text: &str, at: usize) -> Option<usize> {
    let mut rest = text[at + 1..].chars();
    match rest.next()? {
        '\\' => Some(quoted_end(text.as_bytes(), at, b'\'')),
        first => (rest.next()? == '\'').then_some(at + 1 + first.len_utf8() + 1),
    }
}

fn tokenize(text: &str, kinds: &[Kind]) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut chars = text.char_indices().peekable();
    let mut push = |text: String, line: usize| {
        tokens.push(Token {
            text,
            line,
            is_test: false,
        })
    };
    while let Some((at, first)) = chars.next() {
        let first_line = line;
        line += usize::from(first == '\n');
        match kinds[at] {
            Kind::Comment => {}
            Kind::Literal => {
                while let Some((_, next)) = chars.next_if(|&(i, _)| kinds[i] == Kind::Literal) {
                    line += usize::from(next == '\n');
                }
                push("\"\"".to_string(), first_line);
            }
            Kind::Code if first.is_alphanumeric() || first == '_' => {
                let mut word = first.to_string();
                while let Some((_, next)) = chars.next_if(|&(i, next)| {
                    kinds[i] == Kind::Code && (next.is_alphanumeric() || next == '_')
                }) {
                    word.push(next);
                }
                push(word, first_line);
            }
            Kind::Code if first.is_whitespace() => {}
            Kind::Code if first == ':' && chars.next_if(|&(_, next)| next == ':').is_some() => {
                push("::".to_string(), first_line);
            }
            Kind::Code => push(first.to_string(), first_line),
        }
    }
    tokens
}

/// Marks what `#[test]`, `#[cfg(test)]` and `#[cfg(all(test, …))]` stand before, and everything
/// after `#![cfg(test)]`.
fn mark_tests(tokens: &mut [Token]) {
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at].text != "#" {
            at += 1;
            continue;
        }
        let is_inner = text_at(tokens, at + 1) == Some("!");
        let open = at + 1 + usize::from(is_inner);
        if text_at(tokens, open) != Some("[") {
            at += 1;
            continue;
        }
        let close = closing(tokens, open);
        if !is_test_attribute(&tokens[open + 1..close]) {
            at = close;
            continue;
        }
        let end = if is_inner {
            tokens.len()
        } else {
            item_end(tokens, close + 1)
        };
        for token in &mut tokens[Range { start: at, end }] {
            token.is_test = true;
        }
        at = end;
    }
}

fn text_at(tokens: &[Token], at: usize) -> Option<&str> {
    tokens.get(at).map(|token| token.text.as_str())
}

fn is_test_attribute(inside: &[Token]) -> bool {
    let words: Vec<&str> = inside.iter().map(|token| token.text.as_str()).collect();
    matches!(
        words.as_slice(),
        ["test"]
            | ["tokio", "::", "test", ..]
            | ["cfg", "(", "test", ")"]
            | ["cfg", "(", "all", "(", "test", ..]
    )
}

/// The bracket that closes the one at `open`, or the last token.
fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at;
                }
            }
            _ => {}
        }
    }
    tokens.len().saturating_sub(1)
}

/// The token after the item, field, arm or statement that begins at `start`, behind its further
/// attributes.
fn item_end(tokens: &[Token], start: usize) -> usize {
    let mut at = start;
    while text_at(tokens, at) == Some("#") && text_at(tokens, at + 1) == Some("[") {
        at = closing(tokens, at + 1) + 1;
    }
    let is_item = text_at(tokens, at).is_some_and(|word| ITEM_WORDS.contains(&word));
    while let Some(text) = text_at(tokens, at) {
        match text {
            ";" => return at + 1,
            "," if !is_item => return at + 1,
            "(" | "[" => at = closing(tokens, at) + 1,
            "{" => return closing(tokens, at) + 1,
            // The end of what surrounds a last field without a comma.
            "}" | ")" | "]" => return at,
            _ => at += 1,
        }
    }
    tokens.len()
}

#[cfg(test)]
mod tests {
    use super::{Kind, Source};

    fn words(text: &str) -> String {
        let source = Source::parse("src/a/b.rs", text);
        let words: Vec<&str> = source
            .tokens
            .iter()
            .map(|token| token.text.as_str())
            .collect();
        words.join(" ")
    }

    fn paths(text: &str) -> Vec<String> {
        let source = Source::parse("src/a/b.rs", text);
        source
            .paths()
            .into_iter()
            .map(|path| path.segments.join("::"))
            .collect()
    }

    fn tested(text: &str) -> String {
        let source = Source::parse("src/a/b.rs", text);
        let marked = source.tokens.iter().filter(|token| token.is_test);
        marked
            .map(|token| token.text.as_str())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn comments_and_literals_are_not_code() {
        assert_eq!(words("a // b\nc /* d /* e */ f */ g"), "a c g");
        assert_eq!(words(r#"a "b \" // c" d"#), "a \"\" d");
        assert_eq!(words("r#\"b \" c\"# d r#type"), "\"\" d r # type");
        assert_eq!(words("br\"x\\\" y"), "b \"\" y");
        assert_eq!(
            words("'a' '\\'' '\"' 'static x"),
            "\"\" \"\" \"\" ' static x"
        );
        assert_eq!(words("bar\"b\""), "bar \"\"");
    }

    #[test]
    fn lines_are_counted_through_literals_and_comments() {
        let source = Source::parse("src/a.rs", "\"x\ny\" a\n/* b\n*/ c");
        let lines: Vec<usize> = source.tokens.iter().map(|token| token.line).collect();
        assert_eq!(lines, [1, 2, 4]);
        assert_eq!(source.kinds[0], Kind::Literal);
    }

    #[test]
    fn paths_are_read_from_trees_and_expressions() {
        assert_eq!(
            paths("use std::{fs, net::{self, TcpStream as T}, io::*};"),
            [
                "use",
                "std::fs",
                "std::net::self",
                "std::net::TcpStream",
                "std::io::*"
            ]
        );
        assert_eq!(
            paths("x(crate::a::b::<u8>::c(), ::std::fs::read)")[1],
            "crate::a::b"
        );
        assert!(paths("x(::std::fs::read)").contains(&"std::fs::read".to_string()));
        assert!(paths("vec::Vec::<crate::b::C>::new()").contains(&"crate::b::C".to_string()));
    }

    #[test]
    fn depth_counts_the_file_and_the_modules_around_a_path() {
        let source = Source::parse("src/a/b.rs", "x; mod tests { y; mod c { z } } w");
        let depths: Vec<(String, usize)> = source
            .paths()
            .into_iter()
            .map(|path| (path.segments.join("::"), path.depth))
            .collect();
        let depth_of = |name: &str| depths.iter().find(|(n, _)| n == name).unwrap().1;
        assert_eq!(
            [depth_of("x"), depth_of("y"), depth_of("z"), depth_of("w")],
            [2, 3, 4, 2]
        );
        assert_eq!(Source::parse("src/a/mod.rs", "").depth(), 1);
        assert_eq!(Source::parse("src/lib.rs", "").depth(), 0);
    }

    #[test]
    fn test_code_ends_where_its_item_ends() {
        let module = "# [ cfg ( test ) ] mod t { a { b } }";
        assert_eq!(tested("#[cfg(test)] mod t { a { b } } c"), module);
        let function = "# [ test ] # [ x ] fn f < A , B > ( ) { a }";
        assert_eq!(tested("#[test] #[x] fn f<A, B>() { a } c"), function);
        assert_eq!(
            tested("#[cfg(test)] mod t; c"),
            "# [ cfg ( test ) ] mod t ;"
        );
        assert_eq!(
            tested("{ #[cfg(test)] a: B, c: D }"),
            "# [ cfg ( test ) ] a : B ,"
        );
        assert_eq!(tested("#[cfg(not(test))] fn f() {}"), "");
        assert_eq!(
            tested("#[derive(A)] struct S; #![cfg(test)] b"),
            "# ! [ cfg ( test ) ] b"
        );
    }

    #[test]
    fn children_are_looked_for_beside_a_front_page_and_under_a_file() {
        assert_eq!(Source::parse("src/a/mod.rs", "").child_folder(), "src/a");
        assert_eq!(Source::parse("src/a/b.rs", "").child_folder(), "src/a/b");
        assert_eq!(Source::parse("src/lib.rs", "").child_folder(), "src");
        let source = Source::parse("src/a/mod.rs", "#[cfg(test)] mod tests; mod b;");
        assert_eq!(source.test_children(), ["tests"]);
    }
}
