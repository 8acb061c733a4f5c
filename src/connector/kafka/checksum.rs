//! CRC-32 of what a partition held, independent of how it was cut into chunks.
//!
//! The stream that is summed is, record by record: the payload's length as four little-endian
//! bytes (`ff ff ff ff` for a NULL payload), then the payload. Control records and compacted ones
//! add nothing. A chunk carries the CRC of its part in `checksum` and that part's length in
//! `bytes`; [`combine`](crate::connector::checksum::combine) joins neighbours, so a run's number is
//! the same however it was read:
//!
//! ```text
//!   records   "ab"  NULL  "c"        stream   02000000 6162 | ffffffff | 01000000 63
//!   chunks    [    0..2    ][2..3]   combine(crc(0..2), 10, crc(2..3), 5) = crc of all 15 bytes
//! ```

use crc32fast::Hasher;

/// What stands in the place of the length of a NULL payload; no record is that long.
const NULL_LENGTH: u32 = u32::MAX;

/// The checksum of a growing run of records.
#[derive(Clone, Default)]
pub struct Checksum {
    hasher: Hasher,
    bytes: usize,
}

impl Checksum {
    /// Adds a record's payload; `None` is a NULL one.
    pub fn add(&mut self, payload: Option<&[u8]>) {
        let length = payload.map_or(NULL_LENGTH, |bytes| {
            u32::try_from(bytes.len()).expect("Kafka counts a record's bytes in 31 bits")
        });
        self.hasher.update(&length.to_le_bytes());
        self.bytes += size_of::<u32>();
        if let Some(payload) = payload {
            self.hasher.update(payload);
            self.bytes += payload.len();
        }
    }

    /// Length of the stream so far.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The CRC and the length of the stream; the checksum is empty afterwards.
    pub fn finish(&mut self) -> (u32, usize) {
        let done = std::mem::take(self);
        (done.hasher.finalize(), done.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::Checksum;
    use crate::connector::checksum::combine;

    fn sum(payloads: &[Option<&[u8]>]) -> (u32, usize) {
        let mut checksum = Checksum::default();
        payloads.iter().for_each(|payload| checksum.add(*payload));
        checksum.finish()
    }

    #[test]
    fn the_number_does_not_depend_on_where_the_run_was_cut() {
        let records: Vec<Option<&[u8]>> =
            vec![Some(b"ab"), None, Some(b""), Some(&[7; 500]), Some(b"c")];
        let whole = sum(&records);
        for cut in 0..=records.len() {
            let (left, right) = records.split_at(cut);
            assert_eq!(combine(sum(left), sum(right)), whole, "cut at {cut}");
        }
    }

    #[test]
    fn null_empty_and_moved_bytes_are_told_apart() {
        assert_ne!(sum(&[None]), sum(&[Some(b"")]));
        assert_ne!(
            sum(&[Some(b"ab"), Some(b"c")]),
            sum(&[Some(b"a"), Some(b"bc")])
        );
        assert_eq!(sum(&[]), (0, 0));
    }

    #[test]
    fn the_stream_is_the_documented_one() {
        let mut bytes = vec![2, 0, 0, 0];
        bytes.extend_from_slice(b"ab");
        bytes.extend_from_slice(&[0xff; 4]);
        assert_eq!(
            sum(&[Some(b"ab"), None]),
            (crc32fast::hash(&bytes), bytes.len())
        );
    }
}
