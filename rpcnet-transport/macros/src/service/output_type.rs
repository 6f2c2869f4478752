//! Return type of a method: its replies and its error.

use syn::{ReturnType, Signature, Type};

use super::type_names::{argument_of, is_named, last_segment, type_arguments};

/// Return type of a method.
pub(super) struct OutputType<'a> {
    /// The type as it is written.
    pub(super) whole: &'a Type,
    /// Type of the reply, or of each reply of a stream.
    pub(super) reply: &'a Type,
    pub(super) is_stream: bool,
    /// Error of the method; `None` if the reply is not in a `Result`.
    pub(super) error: Option<&'a Type>,
}

impl<'a> OutputType<'a> {
    /// The return type of a signature.
    pub(super) fn new(signature: &'a Signature) -> syn::Result<Self> {
        let ReturnType::Type(_, whole) = &signature.output else {
            let message = "a call has a reply: write `-> Result<(), E>`, or `-> ()` if the method \
                           cannot fail";
            return Err(syn::Error::new_spanned(&signature.ident, message));
        };
        let (reply, error) = match last_segment(whole) {
            Some(segment) if segment.ident == "Result" => match type_arguments(segment)[..] {
                [reply, error] => (reply, Some(error)),
                _ => {
                    let message = "the error is part of the method: write both types, \
                                   `Result<Reply, Error>`";
                    return Err(syn::Error::new_spanned(whole, message));
                }
            },
            _ => (&**whole, None),
        };
        let streamed = argument_of(reply, "Replies");
        if is_named(reply, "Requests") {
            let message = "a handler returns `Replies`: `Requests` are what it reads";
            return Err(syn::Error::new_spanned(reply, message));
        }
        Ok(Self {
            whole,
            reply: streamed.unwrap_or(reply),
            is_stream: streamed.is_some(),
            error,
        })
    }
}
