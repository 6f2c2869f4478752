//! Public signatures: types of the QUIC library stay out of them, so that the transport can change
//! its library without a major version of anything else.
//!
//! A heuristic on syntax, not a proof. It reads what each bare `pub` shows to users (the lint
//! `unreachable_pub` makes everything else `pub(crate)`) and the headers of impls on public types,
//! and looks for `quinn` and for names imported from it. It does not see through type aliases that
//! are private, macros, or inferred types such as what an `impl Trait` hides (which is no leak).

use std::collections::BTreeSet;

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::{
    Field, Generics, ImplItem, Item, ItemUse, Visibility,
    visit::{self, Visit},
};

use super::{Problem, modules, workspace::Workspace};

/// The crates whose types count.
const QUIC: [&str; 3] = ["quinn", "quinn_proto", "quinn_udp"];

/// The public items of the published crates that mention a QUIC library's types.
pub(super) fn find(workspace: &Workspace) -> Vec<Problem> {
    let mut problems = Vec::new();
    for folder in workspace.published_folders() {
        let mut public_types = BTreeSet::new();
        let mut leaks = Vec::new();
        for (_, path) in workspace.modules_in(folder) {
            let syntax = &workspace.syntax[path];
            let mut quic = QuicNames(QUIC.map(str::to_owned).into());
            quic.visit_file(syntax);
            let mut signatures = Signatures {
                quic: quic.0,
                ..Signatures::default()
            };
            signatures.visit_file(syntax);
            public_types.append(&mut signatures.public_types);
            leaks.extend(signatures.leaks.into_iter().map(|leak| (path, leak)));
        }
        let is_public = |of: &[Ident]| of.iter().any(|name| public_types.contains(name));
        leaks.retain(|(_, leak)| leak.of.as_deref().is_none_or(is_public));
        problems.extend(leaks.into_iter().map(|(path, Leak { name, .. })| {
            let what = format!("a public signature mentions {name} of the QUIC library");
            Problem::new(format!("{path}:{}", name.span().start().line), what)
        }));
    }
    problems
}

/// Collects `quinn` and everything that `use quinn..` brings into the file.
struct QuicNames(BTreeSet<String>);

impl<'ast> Visit<'ast> for QuicNames {
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        for (name, path) in modules::imported_names(&item.tree, "") {
            let library = path.split("::").next().unwrap_or_default();
            self.0.extend(name.filter(|_| QUIC.contains(&library)));
        }
    }
}

/// Name of the QUIC library in what users see.
struct Leak {
    name: Ident,
    /// In the header of an impl: the type that it is of, with its arguments.
    of: Option<Vec<Ident>>,
}

/// Collects the names of the QUIC library in public items, and the types that are declared `pub`.
#[derive(Default)]
struct Signatures {
    quic: BTreeSet<String>,
    public_types: BTreeSet<Ident>,
    leaks: Vec<Leak>,
}

impl Signatures {
    /// Looks at the signature of an item, if users see it.
    fn look(&mut self, visibility: &Visibility, signature: impl ToTokens) {
        if is_public(visibility) {
            self.record_leak(signature, None);
        }
    }

    fn look_at_type(&mut self, visibility: &Visibility, name: &Ident, signature: impl ToTokens) {
        if is_public(visibility) {
            self.public_types.insert(name.clone());
            self.record_leak(signature, None);
        }
    }

    /// Records the first name of the QUIC library: one leak of a signature is enough.
    fn record_leak(&mut self, signature: impl ToTokens, of: Option<Vec<Ident>>) {
        let mut names = identifiers(signature);
        let leak = names.find(|name| self.quic.contains(&name.to_string()));
        self.leaks.extend(leak.map(|name| Leak { name, of }));
    }
}

impl<'ast> Visit<'ast> for Signatures {
    fn visit_item(&mut self, item: &'ast Item) {
        match item {
            Item::Fn(it) => self.look(&it.vis, &it.sig),
            Item::Const(it) => self.look(&it.vis, &it.ty),
            Item::Static(it) => self.look(&it.vis, &it.ty),
            Item::Trait(it) => self.look(&it.vis, it),
            Item::Use(it) => self.look(&it.vis, it),
            Item::Struct(it) => self.look_at_type(&it.vis, &it.ident, with_where(&it.generics)),
            Item::Union(it) => self.look_at_type(&it.vis, &it.ident, with_where(&it.generics)),
            Item::Enum(it) => self.look_at_type(&it.vis, &it.ident, it),
            Item::Type(it) => self.look_at_type(&it.vis, &it.ident, it),
            Item::Impl(it) => {
                let of_trait = it.trait_.as_ref().map(|(path, _)| path);
                let (generics, of) = (with_where(&it.generics), &it.self_ty);
                let header = quote!(#generics #of_trait #of);
                self.record_leak(header, Some(identifiers(of).collect()));
            }
            _ => {}
        }
        visit::visit_item(self, item);
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        match item {
            ImplItem::Fn(it) => self.look(&it.vis, &it.sig),
            ImplItem::Const(it) => self.look(&it.vis, &it.ty),
            ImplItem::Type(it) => self.look(&it.vis, &it.ty),
            _ => {}
        }
    }

    fn visit_field(&mut self, field: &'ast Field) {
        self.look(&field.vis, &field.ty);
    }
}

fn with_where(generics: &Generics) -> TokenStream {
    let bounds = &generics.where_clause;
    quote!(#generics #bounds)
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

/// The identifiers of a piece of code, in order.
fn identifiers(code: impl ToTokens) -> impl Iterator<Item = Ident> {
    let tokens = flatten(code.to_token_stream()).into_iter();
    tokens.filter_map(|token| match token {
        TokenTree::Ident(name) => Some(name),
        _ => None,
    })
}

/// The tokens of a piece of code, in order, without the groups around them.
pub(super) fn flatten(code: TokenStream) -> Vec<TokenTree> {
    let tokens = code.into_iter().flat_map(|token| match token {
        TokenTree::Group(group) => flatten(group.stream()),
        token => vec![token],
    });
    tokens.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests;

    fn leaks(text: &str) -> Vec<String> {
        let texts = [("a/src/lib.rs", text)];
        tests::found(find, &tests::workspace(&[tests::package("a")], &texts))
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
            ["a/src/lib.rs:7: a public signature mentions quinn of the QUIC library"]
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
