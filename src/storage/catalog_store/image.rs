//! The records of the catalog log, and the image of the catalog that replaying them gives.
//!
//! ```text
//! version u8 | kind u8 | n | (key, 1, value) or (key, 0) each
//! kind 0   changes: one commit
//! kind 4   a part of a whole image, +1 the first part, +2 the last
//! ```
//! A compaction appends a whole image at the start of a new segment and deletes the segments before
//! it. Replay collects the parts aside and takes them over at the last one, so an image that a
//! crash interrupted changes nothing.

use std::collections::BTreeMap;

use crate::base::Offset;
use crate::base::limits::LOG_RECORD_BYTES_MAX;
use crate::error::{Error, Result, SqlState};
use crate::storage::codec::{Decoder, put_bytes, put_number};
use crate::storage::file::size;
use crate::storage::log::LogReader;

const VERSION: u8 = 1;
const CHANGES: u8 = 0;
const PART: u8 = 4;
const FIRST: u8 = 1;
const LAST: u8 = 2;

/// One key's new value; `None` removes the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

impl Change {
    pub fn put(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Change {
        Change {
            key: key.into(),
            value: Some(value.into()),
        }
    }

    pub fn remove(key: impl Into<Vec<u8>>) -> Change {
        Change {
            key: key.into(),
            value: None,
        }
    }
}

/// The whole catalog.
pub type Image = BTreeMap<Vec<u8>, Vec<u8>>;

pub fn encode_changes(changes: &[Change]) -> Vec<u8> {
    encode(CHANGES, changes)
}

/// The records of a whole image: at least one, each short enough for the log.
pub fn encode_image(image: &Image) -> Vec<Vec<u8>> {
    let mut parts: Vec<Vec<Change>> = vec![Vec::new()];
    let mut part_bytes = 0;
    for (key, value) in image {
        let bytes = key.len() + value.len() + 32;
        if part_bytes + bytes > LOG_RECORD_BYTES_MAX / 2 && part_bytes > 0 {
            parts.push(Vec::new());
            part_bytes = 0;
        }
        part_bytes += bytes;
        let part = parts.last_mut().expect("there is always one part");
        part.push(Change::put(key.as_slice(), value.as_slice()));
    }
    let last = parts.len() - 1;
    let kind = |at| PART | if at == 0 { FIRST } else { 0 } | if at == last { LAST } else { 0 };
    parts
        .iter()
        .enumerate()
        .map(|(at, part)| encode(kind(at), part))
        .collect()
}

/// What replaying the log gives.
pub struct Replayed {
    pub image: Image,
    /// The image as it was at the offset that was asked for, if a commit ends there.
    pub before: Option<Image>,
}

/// Replays the log up to its end, and remembers the image at offset `at`.
pub fn replay(log: &LogReader, at: Option<Offset>) -> Result<Replayed> {
    let mut image = Image::new();
    let mut before = (at == Some(Offset(0)) && log.start_offset() == Offset(0)).then(Image::new);
    let mut parts: Option<Image> = None;
    let mut is_complete = log.start_offset() == Offset(0);
    for record in log.read_from(log.start_offset())? {
        let record = record?;
        let place = |e: Error| e.context(format_args!("catalog log record {}", record.offset));
        let (kind, changes) = decode(&record.payload).map_err(place)?;
        if kind == CHANGES {
            // An image without its last part was interrupted.
            parts = None;
            if !is_complete {
                break;
            }
            apply(&mut image, changes);
        } else {
            let mut part = if kind & FIRST == 0 {
                parts.take()
            } else {
                Some(Image::new())
            };
            if let Some(part) = &mut part {
                apply(part, changes);
            }
            if kind & LAST == 0 {
                parts = part;
                // In the middle of an image no commit ends.
                continue;
            }
            if let Some(whole) = part {
                image = whole;
                is_complete = true;
            }
        }
        if at == Some(record.end()) {
            before = Some(image.clone());
        }
    }
    if !is_complete {
        return Err(Error::new(
            SqlState::DATA_CORRUPTED,
            "the catalog log lacks its beginning",
        ));
    }
    Ok(Replayed { image, before })
}

/// Bytes of an image as one record.
pub fn image_bytes(image: &Image) -> u64 {
    image
        .iter()
        .map(|(key, value)| size(key.len() + value.len() + 8))
        .sum()
}

fn apply(image: &mut Image, changes: Vec<Change>) {
    for Change { key, value } in changes {
        match value {
            Some(value) => image.insert(key, value),
            None => image.remove(&key),
        };
    }
}

fn encode(kind: u8, changes: &[Change]) -> Vec<u8> {
    let mut out = vec![VERSION, kind];
    put_number(&mut out, size(changes.len()));
    for change in changes {
        put_bytes(&mut out, &change.key);
        out.push(u8::from(change.value.is_some()));
        if let Some(value) = &change.value {
            put_bytes(&mut out, value);
        }
    }
    out
}

fn decode(bytes: &[u8]) -> Result<(u8, Vec<Change>)> {
    let mut decoder = Decoder::new(bytes, "catalog log record");
    if decoder.byte()? != VERSION {
        return Err(decoder.wrong("was written by another version"));
    }
    let kind = decoder.byte()?;
    if kind != CHANGES && kind & !(FIRST | LAST) != PART {
        return Err(decoder.wrong("is of an unknown kind"));
    }
    let mut changes = Vec::new();
    for _ in 0..decoder.count()? {
        let key = decoder.bytes()?.to_vec();
        let value = match decoder.byte()? {
            0 => None,
            1 => Some(decoder.bytes()?.to_vec()),
            _ => return Err(decoder.wrong("has an unknown change")),
        };
        changes.push(Change { key, value });
    }
    decoder.finish()?;
    Ok((kind, changes))
}
