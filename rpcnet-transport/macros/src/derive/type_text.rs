//! Text of a type, which is part of a hash: it must not change with the compiler or with rustfmt.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::Type;

/// The tokens of a type, with a space between two words and nowhere else.
pub(crate) fn type_text(ty: &Type) -> String {
    let mut text = String::new();
    write(&mut text, ty.to_token_stream());
    text
}

fn write(text: &mut String, tokens: TokenStream) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    proc_macro2::Delimiter::Parenthesis => ("(", ")"),
                    proc_macro2::Delimiter::Bracket => ("[", "]"),
                    proc_macro2::Delimiter::Brace => ("{", "}"),
                    proc_macro2::Delimiter::None => ("", ""),
                };
                text.push_str(open);
                write(text, group.stream());
                text.push_str(close);
            }
            TokenTree::Punct(punct) => text.push(punct.as_char()),
            TokenTree::Ident(_) | TokenTree::Literal(_) => {
                let is_word = |it: char| it.is_alphanumeric() || it == '_';
                if text.ends_with(is_word) {
                    text.push(' ');
                }
                text.push_str(&token.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_type_does_not_depend_on_its_spaces() {
        for (source, text) in [
            ("Vec < u8 >", "Vec<u8>"),
            ("HashMap<String,Vec<u8>>", "HashMap<String,Vec<u8>>"),
            (
                ":: chrono :: DateTime < Utc , >",
                "::chrono::DateTime<Utc,>",
            ),
            ("[ u8 ; 4 ]", "[u8;4]"),
            ("( u8, &'static mut T )", "(u8,&'static mut T)"),
            ("Box<dyn Fn(u8) -> u16>", "Box<dyn Fn(u8)->u16>"),
        ] {
            assert_eq!(type_text(&syn::parse_str(source).unwrap()), text);
        }
    }
}
