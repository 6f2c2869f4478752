//! Places in a type: fields, items and variants, from the outside in.

use std::fmt::Write;

use crate::printable::Printable;

/// Segments of a path that are shown: types of a peer may be nested without end.
const SEGMENTS_MAX: usize = 16;

/// Place in a type, and the place that it is in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path<'a> {
    /// Index of the path that this one continues.
    pub(super) parent: Option<usize>,
    pub(super) segment: Segment<'a>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Segment<'a> {
    Field(&'a str),
    Index(usize),
    Items,
    Keys,
    Values,
    Variant(&'a str),
}

/// `job.frames[].size`, `tags{key}`, `codec::Zip.0`.
pub(super) fn path_text(paths: &[Path<'_>], path: Option<usize>) -> String {
    let mut segments = Vec::new();
    let mut next = path;
    while let Some(index) = next {
        segments.push(paths[index].segment);
        next = paths[index].parent;
    }
    segments.reverse();
    if segments.len() <= SEGMENTS_MAX {
        return segments_text(&segments);
    }
    let (first, last) = (SEGMENTS_MAX / 2, segments.len() - SEGMENTS_MAX / 2);
    let (first, last) = (
        segments_text(&segments[..first]),
        segments_text(&segments[last..]),
    );
    format!("{first} ... {last}")
}

fn segments_text(segments: &[Segment<'_>]) -> String {
    let mut text = String::new();
    for segment in segments {
        let dot = if text.is_empty() { "" } else { "." };
        let written = match segment {
            Segment::Field(name) => write!(text, "{dot}{}", Printable(name)),
            Segment::Index(index) => write!(text, "{dot}{index}"),
            Segment::Items => text.write_str("[]"),
            Segment::Keys => text.write_str("{key}"),
            Segment::Values => text.write_str("{}"),
            Segment::Variant(name) => write!(text, "::{}", Printable(name)),
        };
        written.expect("a string takes any text");
    }
    text
}
