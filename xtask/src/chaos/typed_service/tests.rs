//! Tests of the versions, and of the check of results.

use rpcnet_client::{Method, transport::schema::MethodSchema};

use super::{
    calls::{StreamedPart, check_results},
    job::{JobContent, JobResult, QualityLevel},
    versions::{TranscodeBreakingMethods, TranscodeV1Methods, TranscodeV2Methods},
};

#[test]
fn the_second_version_is_compatible_both_ways_and_the_breaking_one_is_not() {
    fn fits<A, B, C, D, E, F>(caller: &Method<A, B, E>, server: &Method<C, D, F>) -> bool {
        MethodSchema::check_compatible(caller.schema(), server.schema()).is_ok()
    }
    let (old, new) = (TranscodeV1Methods::PARTS, TranscodeV2Methods::PARTS);
    assert!(fits(&old, &new) && fits(&new, &old));
    assert_ne!(old.schema().hash(), new.schema().hash());
    let breaking = TranscodeBreakingMethods::PARTS;
    assert!(!fits(&old, &breaking) && !fits(&breaking, &old));
    assert_eq!(old.name(), breaking.name());
}

#[test]
fn wrong_results_are_found() {
    let job = JobContent::of_call(9, QualityLevel::Draft);
    let result = JobResult {
        call: 9,
        work: 20,
        worker: "worker-1".to_owned(),
        version: 2,
    };
    let is_right = |streamed, results: &[JobResult]| {
        let answer = check_results(streamed, job, results);
        answer.is_right
    };
    let three = vec![result.clone(); 3];
    assert!(is_right(StreamedPart::Nothing, &three[..1]));
    assert!(is_right(StreamedPart::Both, &three));
    assert!(is_right(StreamedPart::Replies, &three));
    let sum = JobResult {
        work: 60,
        ..result.clone()
    };
    assert!(is_right(StreamedPart::Requests, &[sum]));
    assert!(!is_right(StreamedPart::Requests, &three[..1]));
    assert!(!is_right(StreamedPart::Nothing, &[]));
    assert!(!is_right(StreamedPart::Replies, &three[..2]));
    let other_call = JobResult {
        call: 10,
        ..result.clone()
    };
    assert!(!is_right(StreamedPart::Nothing, &[other_call]));
    let other_worker = JobResult {
        worker: "worker-2".to_owned(),
        ..result.clone()
    };
    assert!(!is_right(
        StreamedPart::Both,
        &[result.clone(), result, other_worker]
    ));
}
