//! QUIC library types stay out of public signatures, so that the transport can change its library
//! without a major version of anything else.
//!
//! A heuristic on text, not a proof. It reads what follows each bare `pub` (the lint
//! `unreachable_pub` makes everything else `pub(crate)`) and the headers of impls on public types,
//! and looks for `quinn` and for names imported from it. It does not see through type aliases that
//! are private, macros, or inferred types such as what an `impl Trait` hides (which is no leak).

use std::{collections::BTreeSet, str::FromStr};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::Problem;

/// The crates whose types count.
const QUIC: [&str; 3] = ["quinn", "quinn_proto", "quinn_udp"];

/// The public items that mention a QUIC library's types, in the files (path, text) of one crate.
pub(crate) fn check(files: &[(String, String)]) -> Vec<Problem> {
    let codes: Vec<(&str, Vec<Token>)> = files
        .iter()
        .map(|(path, text)| (path.as_str(), tokens(text)))
        .collect();
    let public: BTreeSet<&str> = codes
        .iter()
        .flat_map(|(_, code)| public_types(code))
        .collect();
    let mut problems = Vec::new();
    for (path, code) in &codes {
        let quic = quic_names(code);
        for at in 0..code.len() {
            let signature = match code[at].text.as_str() {
                "pub" if follows(code, at).is_some_and(|next| next != "(") => {
                    public_signature(&code[at + 1..])
                }
                "impl"
                    if at == 0 || matches!(code[at - 1].text.as_str(), "}" | ";" | "]" | "{") =>
                {
                    let header = until(&code[at + 1..], |text| text == "{");
                    let of = header
                        .iter()
                        .rposition(|it| it.text == "for")
                        .map_or(0, |it| it + 1);
                    let is_public = header[of..]
                        .iter()
                        .any(|it| public.contains(it.text.as_str()));
                    if is_public { header } else { &[] }
                }
                _ => continue,
            };
            if let Some(leak) = signature.iter().find(|it| quic.contains(it.text.as_str())) {
                let place = format!("{path}:{}", leak.line);
                let what = format!(
                    "a public signature mentions {} of the QUIC library",
                    leak.text
                );
                problems.push(Problem::new(place, what));
            }
        }
    }
    problems
}

/// An identifier or a single other character, without comments and the insides of literals.
#[derive(Debug)]
struct Token {
    line: usize,
    text: String,
}

/// The part of an item, beginning after its `pub`, that its users see.
fn public_signature(code: &[Token]) -> &[Token] {
    let mut words = code.iter().map(|it| it.text.as_str());
    let is_modifier = |it: &&str| matches!(*it, "async" | "unsafe" | "extern" | "\"");
    match (words.find(|it| !is_modifier(it)), words.next()) {
        (Some("fn"), _) | (Some("const"), Some("fn" | "async" | "unsafe")) | (Some("mod"), _) => {
            until(code, |text| text == "{" || text == ";")
        }
        (Some("const" | "static"), _) => until(code, |text| text == "=" || text == ";"),
        (Some("struct" | "union"), _) => until(code, |text| matches!(text, "{" | "(" | ";")),
        (Some("use" | "type"), _) => until(code, |text| text == ";"),
        (Some("enum" | "trait"), _) => {
            let header = until(code, |text| text == "{" || text == ";").len();
            let body = code
                .get(header + 1..)
                .map_or(0, |body| until(body, |it| it == "}").len());
            &code[..header + body]
        }
        _ => until(code, |text| matches!(text, "," | ")" | "}" | ";")),
    }
}

/// Tokens before the first one, outside of all brackets, that ends an item.
fn until(code: &[Token], ends: impl Fn(&str) -> bool) -> &[Token] {
    let mut depth = 0_i32;
    for (at, token) in code.iter().enumerate() {
        let text = token.text.as_str();
        if depth <= 0 && ends(text) {
            return &code[..at];
        }
        match text {
            "(" | "[" | "{" | "<" => depth += 1,
            ">" if at > 0 && matches!(code[at - 1].text.as_str(), "-" | "=") => {}
            ")" | "]" | "}" | ">" => depth -= 1,
            _ => {}
        }
    }
    code
}

/// `quinn` and everything that `use quinn..` brings into the file.
fn quic_names(code: &[Token]) -> BTreeSet<&str> {
    let mut names = BTreeSet::from(QUIC);
    for at in 0..code.len() {
        if code[at].text != "use" || !follows(code, at).is_some_and(|it| QUIC.contains(&it)) {
            continue;
        }
        let tree = until(&code[at + 1..], |text| text == ";");
        for (place, token) in tree.iter().enumerate() {
            let is_name = token
                .text
                .starts_with(|it: char| it.is_alphabetic() || it == '_');
            let is_leaf = tree
                .get(place + 1)
                .is_none_or(|it| matches!(&*it.text, "," | "}"));
            if is_name && is_leaf && !matches!(&*token.text, "self" | "_") {
                names.insert(&token.text);
            }
        }
    }
    names
}

/// The names of types that are declared `pub`.
fn public_types(code: &[Token]) -> impl Iterator<Item = &str> {
    code.windows(3).filter_map(|it| {
        let is_type = matches!(it[1].text.as_str(), "struct" | "enum" | "union" | "type");
        (it[0].text == "pub" && is_type).then_some(it[2].text.as_str())
    })
}

fn follows(code: &[Token], at: usize) -> Option<&str> {
    code.get(at + 1).map(|it| it.text.as_str())
}

/// Splits source text. A literal becomes a single `"`; comments are left out.
fn tokens(text: &str) -> Vec<Token> {
    fn collect(stream: TokenStream, found: &mut Vec<Token>) {
        for token in stream {
            let line = token.span().start().line;
            let mut push = |line, text: String| found.push(Token { line, text });
            match token {
                TokenTree::Ident(ident) => push(line, ident.to_string()),
                TokenTree::Punct(punct) => push(line, punct.to_string()),
                TokenTree::Literal(_) => push(line, "\"".to_owned()),
                TokenTree::Group(group) => {
                    let (open, close) = match group.delimiter() {
                        Delimiter::Parenthesis => ("(", ")"),
                        Delimiter::Brace => ("{", "}"),
                        Delimiter::Bracket => ("[", "]"),
                        Delimiter::None => ("", ""),
                    };
                    push(line, open.to_owned());
                    collect(group.stream(), found);
                    found.push(Token {
                        line: group.span_close().start().line,
                        text: close.to_owned(),
                    });
                }
            }
        }
    }
    let mut found = Vec::new();
    collect(TokenStream::from_str(text).unwrap_or_default(), &mut found);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaks(text: &str) -> Vec<String> {
        let files = [("a.rs".to_owned(), text.to_owned())];
        check(&files).iter().map(Problem::to_string).collect()
    }

    #[test]
    fn each_kind_of_public_item_is_caught() {
        for text in [
            "pub fn endpoint(&self) -> quinn::Endpoint { todo() }",
            "pub async fn open(at: HashMap<u8, quinn::Connection>) {}",
            "pub const fn id() -> Option<quinn_proto::StreamId> { None }",
            "pub struct Client<T: quinn::Runtime> { it: T }",
            "pub struct Client { pub(crate) a: u8, pub peers: HashMap<u8, quinn::Connection> }",
            "pub struct Wrapped(pub quinn::Connection);",
            "pub enum Error { Io(u8), Lost { cause: quinn::ConnectionError } }",
            "pub trait Socket { fn socket(&self) -> Box<dyn quinn::AsyncUdpSocket>; }",
            "pub type Stream = quinn::SendStream;",
            "pub const DEFAULT: quinn::VarInt = quinn::VarInt::MAX;",
            "pub use quinn::Endpoint;",
            "use quinn::{Endpoint, VarInt as Code}; pub fn f(code: Code) {}",
            "use quinn::Endpoint;\npub fn f<F>(it: F) where F: Fn(u8) -> Endpoint {}",
            "pub struct Error; impl From<quinn::ConnectionError> for Error { }",
        ] {
            let found = leaks(text);
            assert_eq!(found.len(), 1, "{text}: {found:?}");
        }
    }

    #[test]
    fn a_leak_is_reported_with_its_line() {
        let text =
            "//! Doc.\n/* a\nb */\nconst A: &str = \"x\ny\";\npub fn f(\n  a: quinn::A,\n) {}\n";
        assert_eq!(
            leaks(text),
            ["a.rs:7: a public signature mentions quinn of the QUIC library"]
        );
    }

    #[test]
    fn private_uses_pass() {
        for text in [
            "use quinn::Endpoint; pub struct Client { endpoint: Endpoint, pub port: u16 }",
            "pub struct Wrapped(quinn::Connection);",
            "pub(crate) fn endpoint() -> quinn::Endpoint { f() }",
            "pub fn close(&self) { self.0.close(quinn::VarInt::MAX) }",
            "pub const CODE: u32 = quinn::VarInt::MAX;",
            "/// Built on `quinn::Endpoint`.\npub fn f() {}",
            "pub fn f(lib: &str) -> u8 { \"quinn\" }",
            "pub fn f<'a>(a: &'a str) -> char { '\"' } // quinn::X",
            "pub fn f() -> &str { r#\"pub fn g(a: quinn::X)\"# }",
            "struct Shared; impl quinn::AsyncUdpSocket for Shared { }",
            "pub struct Error; fn f() { let e: quinn::E; } impl Error { }",
            "pub struct A<F: Fn() -> u8> { f: F, b: quinn::B }",
        ] {
            assert_eq!(leaks(text), [""; 0], "{text}");
        }
    }
}
