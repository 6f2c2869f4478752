//! Messages of two versions of a service.

use rpcnet_client::Message;
use serde::{Deserialize, Serialize};

/// A message that holds the number of its call.
pub(super) trait Numbered: Message + Clone + Send + Sync {
    fn of(id: u64) -> Self;

    fn id(&self) -> u64;
}

/// A message by its constructor and its number.
macro_rules! numbered {
    ($type:ty, $of:expr, $id:expr) => {
        impl Numbered for $type {
            fn of(id: u64) -> Self {
                let of: fn(u64) -> Self = $of;
                of(id)
            }

            fn id(&self) -> u64 {
                let id: fn(&Self) -> u64 = $id;
                id(self)
            }
        }
    };
}

impl Numbered for u64 {
    fn of(id: u64) -> Self {
        id
    }

    fn id(&self) -> u64 {
        *self
    }
}

#[derive(Clone, Serialize, Deserialize, Message)]
pub(super) struct Plain {
    id: u64,
}
numbered!(Plain, |id| Self { id }, |it| it.id);

#[derive(Clone, Serialize, Deserialize, Message)]
pub(super) struct WithDefault {
    #[serde(default)]
    quality: String,
    id: u64,
}
numbered!(
    WithDefault,
    |id| Self {
        quality: "high".to_owned(),
        id,
    },
    |it| it.id
);

#[derive(Clone, Serialize, Deserialize, Message)]
pub(super) struct WithRequired {
    quality: String,
    id: u64,
}
numbered!(
    WithRequired,
    |id| Self {
        quality: "high".to_owned(),
        id,
    },
    |it| it.id
);

#[derive(Clone, Serialize, Deserialize, Message)]
pub(super) struct Reordered {
    id: u64,
    quality: String,
}
numbered!(
    Reordered,
    |id| Self {
        id,
        quality: "high".to_owned(),
    },
    |it| it.id
);

#[derive(Clone, Serialize, Deserialize, Message)]
pub(super) struct Narrow {
    id: u32,
}
numbered!(Narrow, |id| Self { id: id as u32 }, |it| it.id.into());

#[derive(Clone, Serialize, Deserialize, Message)]
pub(super) struct InOption {
    id: Option<u64>,
}
numbered!(InOption, |id| Self { id: Some(id) }, |it| it
    .id
    .expect("a number"));

#[derive(Clone, Serialize, Deserialize, Message)]
pub(super) struct Text {
    id: String,
}
numbered!(Text, |id| Self { id: id.to_string() }, |it| it
    .id
    .parse()
    .expect("a number"));

#[derive(Clone, Serialize, Deserialize, Message)]
pub(super) struct ReadsNewName {
    #[serde(alias = "number")]
    id: u64,
}
numbered!(ReadsNewName, |id| Self { id }, |it| it.id);

#[derive(Clone, Serialize, Deserialize, Message)]
pub(super) struct Renamed {
    #[serde(rename = "number", alias = "id")]
    id: u64,
}
numbered!(Renamed, |id| Self { id }, |it| it.id);

#[derive(Clone, Serialize, Deserialize, Message)]
pub(super) enum OneVariant {
    Quick(u64),
}
numbered!(OneVariant, Self::Quick, |Self::Quick(id)| *id);

#[derive(Clone, Serialize, Deserialize, Message)]
pub(super) enum TwoVariants {
    Quick(u64),
    Slow(u64),
}
numbered!(
    TwoVariants,
    Self::Quick,
    |(Self::Quick(id) | Self::Slow(id))| *id
);

/// The same as [`TwoVariants`], whose second variant is used.
#[derive(Clone, Serialize, Deserialize, Message)]
#[serde(rename = "TwoVariants")]
pub(super) enum SecondVariant {
    Quick(u64),
    Slow(u64),
}
numbered!(
    SecondVariant,
    Self::Slow,
    |(Self::Quick(id) | Self::Slow(id))| *id
);
