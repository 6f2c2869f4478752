//! Errors of one expansion, which the compiler reports together.

use quote::ToTokens;

/// Errors that were found so far.
#[derive(Debug, Default)]
pub(crate) struct Errors {
    found: Option<syn::Error>,
}

impl Errors {
    /// Adds an error.
    pub(crate) fn add(&mut self, error: syn::Error) {
        match &mut self.found {
            Some(found) => found.combine(error),
            found @ None => *found = Some(error),
        }
    }

    /// Adds an error at these tokens.
    pub(crate) fn add_at(&mut self, tokens: impl ToTokens, message: &str) {
        self.add(syn::Error::new_spanned(tokens, message));
    }

    /// All errors as one, if there is any.
    ///
    /// # Errors
    ///
    /// The errors.
    pub(crate) fn finish(self) -> syn::Result<()> {
        self.found.map_or(Ok(()), Err)
    }
}
