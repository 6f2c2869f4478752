//! Demultiplexing within one receive buffer.

use super::is_quic;

/// Separates the datagrams of one receive buffer: QUIC's stay, moved together, the others go to
/// `side`.
///
/// The kernel may deliver several datagrams of one sender at once (GRO): every `stride` bytes
/// starts another, and the last may be shorter. The rest keeps that shape, because only the last
/// one can be short and it stays last. Returns the number of bytes that stay. A buffer with QUIC
/// alone is not written to.
pub(super) fn retain_quic(buf: &mut [u8], stride: usize, mut side: impl FnMut(&[u8])) -> usize {
    if buf.is_empty() {
        side(buf);
        return 0;
    }
    let stride = if stride == 0 { buf.len() } else { stride };
    let mut kept = 0;
    let mut start = 0;
    while start < buf.len() {
        let end = buf.len().min(start + stride);
        if is_quic(buf[start]) {
            if kept != start {
                buf.copy_within(start..end, kept);
            }
            kept += end - start;
        } else {
            side(&buf[start..end]);
        }
        start = end;
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(segments: &[&[u8]], stride: usize, quic: &[&[u8]], other: &[&[u8]]) {
        let mut buf = segments.concat();
        let mut seen = Vec::new();
        let kept = retain_quic(&mut buf, stride, |datagram| seen.push(datagram.to_vec()));
        assert_eq!(buf[..kept], quic.concat());
        assert_eq!(seen, other);
    }

    #[test]
    fn datagrams_are_sorted_by_the_fixed_bit() {
        check(&[b"@@@"], 3, &[b"@@@"], &[]);
        check(&[b"123"], 3, &[], &[b"123"]);
        check(&[b"@aa", b"1bb", b"@cc"], 3, &[b"@aa", b"@cc"], &[b"1bb"]);
        check(&[b"1aa", b"@bb", b"@c"], 3, &[b"@bb", b"@c"], &[b"1aa"]);
        check(&[b"@aa", b"@bb", b"1"], 3, &[b"@aa", b"@bb"], &[b"1"]);
    }

    #[test]
    fn an_empty_datagram_is_not_quic() {
        check(&[], 0, &[], &[b""]);
        check(&[], 1200, &[], &[b""]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_reordered_or_missorted(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 7), 1..40),
            last in prop::collection::vec(any::<u8>(), 1..=7),
        ) {
            let mut datagrams = bodies;
            datagrams.push(last);
            let mut buf = datagrams.concat();
            let mut other = Vec::new();
            let kept = retain_quic(&mut buf, 7, |datagram| other.push(datagram.to_vec()));
            let (quic, rest): (Vec<_>, Vec<_>) = datagrams.into_iter().partition(|d| d[0] & 0x40 != 0);
            prop_assert_eq!(other, rest);
            prop_assert_eq!(buf[..kept].chunks(7).collect::<Vec<_>>(), quic);
        }
    }
}
