//! Calls of typed methods whose types are the same on both sides.

use std::time::Duration;

use futures::{StreamExt, stream};
use rpcnet_testing::within;
use rpcnet_transport::{
    CallError, Channel, Code, LocalChannel, Method, MethodOptions, Processed, Replies, Requests,
    Router, Status,
};

use super::{connected, messages::Refusal};

const SQUARE: Method<u64, u64> = Method::new("Maths/square");
const DIVIDE: Method<(u64, u64), u64, Refusal> = Method::new("Maths/divide");
const COUNT: Method<u64, Replies<u64>, Refusal> = Method::new("Maths/count");
const SUM: Method<Requests<u64>, u64, Refusal> = Method::new("Maths/sum");
const DOUBLE: Method<Requests<u64>, Replies<u64>, Refusal> = Method::new("Maths/double");
const SLOW: Method<(), ()> = Method::new("Maths/slow");
const PANIC: Method<(), ()> = Method::new("Maths/panic");

fn maths() -> Router {
    Router::new()
        .method(SQUARE, |n| async move { n * n })
        .method(DIVIDE, |(a, b): (u64, u64)| async move {
            a.checked_div(b).ok_or(Refusal { number: b })
        })
        .server_streaming_method(COUNT, |_, to| async move {
            let numbers = (0..to).map(move |n| match n {
                7 => Err(Refusal { number: n }),
                n => Ok(n),
            });
            match to {
                13 => Err(Refusal { number: to }),
                _ => Ok(Replies::try_new(stream::iter(numbers))),
            }
        })
        .client_streaming_method(SUM, |_, mut numbers: Requests<u64>| async move {
            let mut sum = 0;
            while let Ok(Some(number)) = numbers.message().await {
                if number == 13 {
                    return Err(Refusal { number });
                }
                sum += number;
            }
            Ok(sum)
        })
        .streaming_method(DOUBLE, |_, numbers: Requests<u64>| async move {
            Ok(Replies::try_new(numbers.map(|number| match number {
                Ok(13) | Err(_) => Err(Refusal { number: 13 }),
                Ok(number) => Ok(2 * number),
            })))
        })
        .method(SLOW, |()| std::future::pending::<()>())
        .method(PANIC, |()| panicking())
}

async fn panicking() {
    panic!("asked for");
}

/// What holds over any channel.
async fn check(channel: &impl Channel) {
    assert_eq!(SQUARE.call(channel, &12).await.unwrap(), 144);
    assert_eq!(DIVIDE.call(channel, &(42, 6)).await.unwrap(), 7);
    let refused = DIVIDE.call(channel, &(42, 0)).await.unwrap_err();
    assert_eq!(refused.service(), Some(&Refusal { number: 0 }));
    check_streams(channel).await;
    let options = MethodOptions::new().with_timeout(Duration::from_millis(20));
    let late = SLOW.call_with(channel, &(), options).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded);
    assert_eq!(late.processed(), Processed::Maybe);
    let panicked = PANIC.call(channel, &()).await.unwrap_err();
    assert_eq!(panicked.code(), Code::Internal);
    assert_eq!(panicked.processed(), Processed::Maybe);
    const UNKNOWN: Method<u64, u64> = Method::new("Maths/unknown");
    let unknown = UNKNOWN.call(channel, &1).await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unimplemented);
    assert_eq!(unknown.processed(), Processed::No);
}

async fn check_streams(channel: &impl Channel) {
    let none = MethodOptions::new;
    let mut counted = COUNT
        .call_server_streaming(channel, &3, none())
        .await
        .unwrap();
    for expected in [Some(0), Some(1), Some(2), None] {
        assert_eq!(counted.message().await.unwrap(), expected);
    }
    let counted = COUNT
        .call_server_streaming(channel, &9, none())
        .await
        .unwrap();
    let counted: Vec<_> = counted.collect().await;
    assert_eq!(counted.len(), 8, "{counted:?}");
    let end = counted[7].as_ref().unwrap_err();
    assert_eq!(end.app(), Some(Refusal { number: 7 }));
    // What a handler refuses before it streams comes with the replies of a network.
    let refused = match COUNT.call_server_streaming(channel, &13, none()).await {
        Ok(mut replies) => CallError::from(replies.message().await.unwrap_err()),
        Err(error) => error,
    };
    assert_eq!(refused.service(), Some(&Refusal { number: 13 }));

    let numbers = |to| stream::iter(0..to);
    let sum = SUM.call_client_streaming(channel, numbers(5), none()).await;
    assert_eq!(sum.unwrap(), 10);
    // The reply comes before all requests are sent.
    let endless = stream::iter(13..).chain(stream::pending());
    let refused = SUM.call_client_streaming(channel, endless, none()).await;
    assert_eq!(
        refused.unwrap_err().service(),
        Some(&Refusal { number: 13 })
    );

    let doubled = DOUBLE
        .call_streaming(channel, numbers(4), none())
        .await
        .unwrap();
    let doubled: Vec<_> = doubled.map(Result::unwrap).collect().await;
    assert_eq!(doubled, [0, 2, 4, 6]);
    let doubled = DOUBLE
        .call_streaming(channel, numbers(20), none())
        .await
        .unwrap();
    let doubled: Vec<_> = doubled.collect().await;
    assert_eq!(doubled.len(), 14, "{doubled:?}");
    let end = doubled[13].as_ref().unwrap_err();
    assert_eq!(end.app(), Some(Refusal { number: 13 }));
}

#[tokio::test]
async fn typed_calls_of_all_types_succeed_on_a_connection() {
    let (_server, client) = connected(maths()).await;
    within(check(&client)).await;
}

#[tokio::test]
async fn typed_calls_of_all_types_succeed_without_a_network() {
    within(check(&LocalChannel::new(maths()))).await;
}

#[tokio::test]
async fn a_handler_without_an_error_of_its_own_fails_with_a_status() {
    const CLOSED: Method<(), u8> = Method::new("closed");
    let closed = || async { Err::<u8, _>(Status::permission_denied("closed on sundays")) };
    let router = Router::new().method(CLOSED, move |()| closed());
    let (_server, client) = connected(router.clone()).await;
    for error in [
        CLOSED.call(&client, &()).await.unwrap_err(),
        CLOSED
            .call(&LocalChannel::new(router), &())
            .await
            .unwrap_err(),
    ] {
        assert_eq!(error.code(), Code::PermissionDenied);
        assert_eq!(error.message(), "closed on sundays");
    }
}

#[tokio::test]
async fn an_untyped_caller_of_a_typed_method_is_served() {
    let (_server, client) = connected(maths()).await;
    let squared: u64 = client.call_typed("Maths/square", &12_u64).await.unwrap();
    assert_eq!(squared, 144);
}

#[tokio::test]
async fn a_typed_caller_of_an_untyped_method_is_served() {
    let router = Router::new().typed("Maths/square", |n: u64| async move { n * n });
    let (_server, client) = connected(router).await;
    assert_eq!(SQUARE.call(&client, &12).await.unwrap(), 144);
}
