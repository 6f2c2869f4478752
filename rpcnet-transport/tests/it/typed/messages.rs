//! Messages of the tests, with their schemas.

use rpcnet_transport::{
    Message,
    schema::{Field, SchemaBuilder, Shape, TypeRef},
};
use serde::{Deserialize, Serialize};

/// Error of a method.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refusal {
    pub(super) number: u64,
}

impl Message for Refusal {
    fn describe(schema: &mut SchemaBuilder) -> TypeRef {
        schema.define::<Self>("Refusal", |schema| Shape::Struct {
            fields: vec![Field::new("number", schema.add::<u64>())],
            denies_unknown_fields: false,
        })
    }
}

/// Rows of the table of changes: two versions of a type, and which of them can read the other.
pub(super) mod rows {
    use rpcnet_transport::Message;
    use serde::{Deserialize, Serialize};

    use super::super::versions::check_versions;

    /// Two versions of one message.
    macro_rules! versions {
        ($row:ident: $(#[$old_attr:meta])* { $($old:tt)* } => $(#[$new_attr:meta])* { $($new:tt)* }) => {
            mod $row {
                use super::{Deserialize, Message, Serialize};
                #[derive(Debug, Clone, Serialize, Deserialize, Message)]
                $(#[$old_attr])*
                pub(super) struct Old { $($old)* }
                #[derive(Debug, Clone, Serialize, Deserialize, Message)]
                $(#[$new_attr])*
                pub(super) struct New { $($new)* }
            }
        };
        ($row:ident: enum { $($old:tt)* } => enum { $($new:tt)* }) => {
            mod $row {
                use super::{Deserialize, Message, Serialize};
                #[allow(dead_code, reason = "a variant that is not used")]
                #[derive(Debug, Clone, Serialize, Deserialize, Message)]
                pub(super) enum Old { $($old)* }
                #[allow(dead_code, reason = "a variant that is not used")]
                #[derive(Debug, Clone, Serialize, Deserialize, Message)]
                pub(super) enum New { $($new)* }
            }
        };
    }

    versions!(same: { pub(super) a: u32 } => { pub(super) a: u32 });
    versions!(added_with_default: { pub(super) a: u32 } =>
        { pub(super) a: u32, #[serde(default)] pub(super) b: String });
    versions!(added_without_default: { pub(super) a: u32 } =>
        { pub(super) a: u32, pub(super) b: String });
    versions!(added_option: { pub(super) a: u32 } =>
        { pub(super) a: u32, pub(super) b: Option<String> });
    versions!(reordered: { pub(super) a: u32, pub(super) b: String } =>
        { pub(super) b: String, pub(super) a: u32 });
    versions!(widened: { pub(super) a: u32 } => { pub(super) a: u64 });
    versions!(made_optional: { pub(super) a: u32 } => { pub(super) a: Option<u32> });
    versions!(renamed_with_alias: { #[serde(alias = "b")] pub(super) a: u32 } =>
        { #[serde(rename = "b", alias = "a")] pub(super) a: u32 });
    versions!(renamed: { pub(super) a: u32 } => { #[serde(rename = "b")] pub(super) a: u32 });
    versions!(type_changed: { pub(super) a: u32 } => { pub(super) a: String });
    versions!(closed: #[serde(deny_unknown_fields)] { pub(super) a: u32 } =>
        { pub(super) a: u32, #[serde(default)] pub(super) b: u32 });
    versions!(variant_added: enum { A(u32) } => enum { A(u32), B });
    versions!(variant_changed: enum { A(u32) } => enum { A(String), B });
    versions!(option_of_option: { pub(super) a: Option<Option<u32>> } =>
        { pub(super) a: Option<Option<u32>> });
    versions!(beside_option_of_option: { pub(super) a: Option<Option<u32>> } =>
        { pub(super) a: Option<Option<u32>>, #[serde(default)] pub(super) b: u32 });
    versions!(option_of_option_removed: { pub(super) a: u32, pub(super) b: Option<Option<u32>> } =>
        { pub(super) a: u32 });
    versions!(self_describing: { #[message(self_describing)] pub(super) a: String } =>
        { #[message(self_describing)] pub(super) a: String });
    versions!(self_describing_beside_option_of_option:
        { #[message(self_describing)] pub(super) a: String, pub(super) b: Option<Option<u32>> } =>
        { #[message(self_describing)] pub(super) a: String, pub(super) b: Option<Option<u32>> });

    /// Checks a row: whether New reads what Old writes, and Old what New writes.
    macro_rules! check {
        ($row:ident, $old:expr, $new:expr, $new_reads_old:expr, $old_reads_new:expr) => {
            let (old, new) = ($old, $new);
            let name = stringify!($row);
            // The request is written by the caller, the reply by the server.
            let from_old = ($new_reads_old, $old_reads_new);
            check_versions(&format!("{name}, an old caller"), &old, &new, from_old).await;
            let from_new = ($old_reads_new, $new_reads_old);
            check_versions(&format!("{name}, a new caller"), &new, &old, from_new).await;
        };
    }

    pub(in super::super) async fn check_compatible_changes() {
        check!(same, same::Old { a: 1 }, same::New { a: 1 }, true, true);
        {
            use added_with_default::{New, Old};
            let b = "b".to_owned();
            check!(
                added_with_default,
                Old { a: 1 },
                New { a: 1, b },
                true,
                true
            );
        }
        {
            use added_option::{New, Old};
            check!(
                added_option,
                Old { a: 1 },
                New { a: 1, b: None },
                true,
                true
            );
        }
        {
            use reordered::{New, Old};
            let (b, c) = ("b".to_owned(), "c".to_owned());
            check!(reordered, Old { a: 1, b }, New { b: c, a: 1 }, true, true);
        }
        check!(
            widened,
            widened::Old { a: 1 },
            widened::New { a: 1 },
            true,
            true
        );
        {
            use made_optional::{New, Old};
            check!(made_optional, Old { a: 1 }, New { a: Some(1) }, true, true);
        }
        {
            use renamed_with_alias::{New, Old};
            check!(renamed_with_alias, Old { a: 1 }, New { a: 1 }, true, true);
        }
        {
            // A value that the other does not know is found when it is decoded.
            use variant_added::{New, Old};
            check!(variant_added, Old::A(1), New::A(1), true, true);
        }
    }

    pub(in super::super) async fn check_incompatible_changes() {
        {
            use added_without_default::{New, Old};
            let b = "b".to_owned();
            check!(
                added_without_default,
                Old { a: 1 },
                New { a: 1, b },
                false,
                true
            );
        }
        check!(
            renamed,
            renamed::Old { a: 1 },
            renamed::New { a: 1 },
            false,
            false
        );
        {
            use type_changed::{New, Old};
            let a = "1".to_owned();
            check!(type_changed, Old { a: 1 }, New { a }, false, false);
        }
        check!(
            closed,
            closed::Old { a: 1 },
            closed::New { a: 1, b: 1 },
            true,
            false
        );
        {
            use variant_changed::{New, Old};
            check!(
                variant_changed,
                Old::A(1),
                New::A("1".to_owned()),
                false,
                false
            );
        }
        check_options().await;
    }

    /// With names, an option of an option is read as `None` if it holds `None`.
    async fn check_options() {
        {
            use option_of_option::{New, Old};
            let (old, new) = (Old { a: Some(None) }, New { a: Some(None) });
            check!(option_of_option, old, new, true, true);
        }
        {
            use beside_option_of_option::{New, Old};
            let new = New {
                a: Some(None),
                b: 1,
            };
            let old = Old { a: Some(None) };
            check!(beside_option_of_option, old, new, false, false);
        }
        {
            use option_of_option_removed::{New, Old};
            let old = Old {
                a: 1,
                b: Some(None),
            };
            check!(option_of_option_removed, old, New { a: 1 }, true, true);
        }
        {
            use self_describing::{New, Old};
            let a = || "a".to_owned();
            check!(self_describing, Old { a: a() }, New { a: a() }, true, true);
        }
        {
            use self_describing_beside_option_of_option::{New, Old};
            let (a, b) = (|| "a".to_owned(), Some(None));
            let (old, new) = (Old { a: a(), b }, New { a: a(), b });
            check!(
                self_describing_beside_option_of_option,
                old,
                new,
                false,
                false
            );
        }
    }
}
