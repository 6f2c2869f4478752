//! A service among names that are those of the standard library, and with all that a trait may
//! have.

use rpcnet_transport::LocalChannel;

use self::hostile::{
    HostileClient, HostileMethods, HostileMock, HostileServer, Implementation, Own,
};

/// Everything here is called like something that generated code uses.
mod hostile {
    #![allow(dead_code, non_camel_case_types, unused_macros)]

    use ::rpcnet_transport::Requests;

    pub(crate) struct Result;
    pub(crate) struct Option;
    pub(crate) struct String;
    pub(crate) struct Vec;
    pub(crate) struct Box;
    pub(crate) struct Arc;
    pub(crate) struct Some;
    pub(crate) struct None;
    pub(crate) struct Ok;
    pub(crate) struct Err;
    pub(crate) struct Method;
    pub(crate) struct MethodOptions;
    pub(crate) struct Router;
    pub(crate) struct Infallible;
    pub(crate) trait Send {}
    pub(crate) trait Sync {}
    pub(crate) trait Future {}
    pub(crate) trait Clone {}
    pub(crate) trait Default {}
    pub(crate) trait Debug {}
    pub(crate) trait From {}
    pub(crate) trait Iterator {}
    pub(crate) trait Message {}
    pub(crate) trait Channel {}
    mod std {}
    mod core {}
    mod rpcnet_transport {}
    mod serde {}

    macro_rules! vec {
        () => {
            compile_error!("the macro of the user")
        };
    }
    macro_rules! panic {
        () => {
            compile_error!("the macro of the user")
        };
    }

    /// A message whose name is that of a type parameter.
    #[derive(
        ::serde::Serialize,
        ::serde::Deserialize,
        ::rpcnet_transport::Message,
        ::core::fmt::Debug,
        ::core::cmp::PartialEq,
    )]
    pub(crate) struct Own<C> {
        pub(crate) r#type: ::core::option::Option<C>,
        pub(crate) list: ::std::vec::Vec<u64>,
    }

    #[derive(::serde::Serialize, ::serde::Deserialize, ::rpcnet_transport::Message)]
    pub(crate) struct C;

    /// The service.
    ///
    /// Its docs have several paragraphs.
    #[::rpcnet_transport::service(name = "hostile.Service")]
    #[allow(clippy::too_many_arguments, reason = "names of locals of the output")]
    pub(crate) trait Hostile: ::core::fmt::Debug {
        /// Raw identifiers, a single argument.
        async fn r#type(&self, r#match: u64) -> ::core::result::Result<Own<u64>, Own<u8>>;

        /// Names of locals and of fields.
        #[rpc(sticky = request)]
        async fn router(
            &self,
            router: u64,
            service: u64,
            cx: u64,
            request: u64,
            options: u64,
            r#type: u64,
            channel: u64,
        ) -> u64;

        async fn answer(&self, mock: u64, answer: u64) -> ();

        #[cfg(any())]
        async fn gone(&self, missing: Missing, more: Missing) -> Missing;

        #[cfg(not(any()))]
        #[must_use]
        async fn there(&self, c: C, d: C) -> C;

        #[deprecated]
        async fn old(&self, answers: Requests<C>) -> u64;

        async fn clone(&self) -> u64;

        async fn client(&self) -> u64;

        #[allow(clippy::wrong_self_convention, reason = "a name of the server")]
        async fn into_router(&self) -> u64;
    }

    #[derive(::core::fmt::Debug)]
    pub(crate) struct Implementation;

    impl Hostile for Implementation {
        async fn r#type(&self, r#match: u64) -> ::core::result::Result<Own<u64>, Own<u8>> {
            ::core::result::Result::Ok(Own {
                r#type: ::core::option::Option::Some(r#match),
                list: ::std::vec::Vec::new(),
            })
        }

        async fn router(
            &self,
            router: u64,
            service: u64,
            cx: u64,
            request: u64,
            options: u64,
            r#type: u64,
            channel: u64,
        ) -> u64 {
            router + service + cx + request + options + r#type + channel
        }

        async fn answer(&self, _mock: u64, _answer: u64) {}

        async fn there(&self, c: C, _d: C) -> C {
            c
        }

        async fn old(&self, mut answers: Requests<C>) -> u64 {
            let mut count = 0;
            while let ::core::result::Result::Ok(::core::option::Option::Some(_)) =
                answers.message().await
            {
                count += 1;
            }
            count
        }

        async fn clone(&self) -> u64 {
            1
        }

        async fn client(&self) -> u64 {
            2
        }

        async fn into_router(&self) -> u64 {
            3
        }
    }
}

#[tokio::test]
async fn a_service_does_not_depend_on_the_names_around_it() {
    let channel = LocalChannel::new(HostileServer::new(Implementation));
    let client = HostileClient::new(channel);
    let own = Own {
        r#type: Some(7),
        list: vec![],
    };
    assert_eq!(client.r#type(7).await.unwrap(), own);
    assert_eq!(client.router(1, 2, 3, 4, 5, 6, 7).await.unwrap(), 28);
    client.answer(1, 2).await.unwrap();
    client.there(hostile::C, hostile::C).await.unwrap();
    let answers = futures::stream::iter([hostile::C, hostile::C]);
    #[allow(deprecated)]
    let old = client.old(answers).await;
    assert_eq!(old.unwrap(), 2);
    let of_reserved = (client.clone().await, client.client().await);
    assert_eq!((of_reserved.0.unwrap(), of_reserved.1.unwrap()), (1, 2));
    assert_eq!(client.into_router().await.unwrap(), 3);
}

#[tokio::test]
async fn names_on_the_wire_have_no_raw_prefix() {
    assert_eq!(HostileMethods::TYPE.name(), "hostile.Service/type");
    assert_eq!(HostileMethods::ALL.len(), 8);
    let mock = HostileMock::new();
    mock.on_type(|number| {
        Err(Own {
            r#type: Some(u8::try_from(number).unwrap()),
            list: vec![],
        })
    });
    let error = mock.client().r#type(7).await.unwrap_err();
    assert_eq!(error.service().unwrap().r#type, Some(7));
    assert_eq!(mock.type_calls(), [7]);
}
