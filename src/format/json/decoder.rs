//! The decoder: one payload, one row, by the fast way or by the full rules.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::base::limits::{JSON_LAYOUT_NODES_MAX, JSON_LAYOUT_PAUSE_RECORDS};
use crate::error::{Error, Result};
use crate::format::column::{Column, Reject, Values};
use crate::format::json::layout::{Layouts, Take, Visited};
use crate::format::json::quick::{self, DayCache};
use crate::format::json::scan::{Fault, Fields, Span, skip_space, string_end, unescape, value_end};
use crate::format::json::value::{Conversion, Scratch};
use crate::format::json::wish::{Match, PathStep, Wish, add_wish, fulfil, match_field};
use crate::format::text::{TIMESTAMP_MICROS, describe};
use crate::format::{BadValue, Decoder, OnError, TimestampUnit};
use crate::types::SqlType;

/// A column to decode.
#[derive(Clone, Debug)]
pub struct JsonColumn {
    pub field: Field,
    /// Where the value is; `None`: in the top-level field with the column's name. An empty path is
    /// the whole record.
    pub path: Option<Vec<PathStep>>,
}

/// How to read what JSON leaves open.
#[derive(Clone, Copy, Debug, Default)]
pub struct JsonOptions {
    /// What a number in a timestamp column counts; without it such a number is refused.
    pub timestamp_unit: Option<TimestampUnit>,
    pub on_error: OnError,
}

/// Decodes JSON objects; see [`crate::format::json`].
pub struct JsonDecoder {
    schema: SchemaRef,
    options: JsonOptions,
    wishes: Vec<Wish>,
    /// Columns that want the whole record.
    whole: Vec<usize>,

    columns: Vec<Slot>,
    rows: usize,

    layouts: Layouts,
    /// Records that do without layouts: their orders of fields change too much.
    pause: usize,

    scratch: Scratch,
    spans: Vec<Option<Span>>,
    visited: Vec<Visited>,
    matched: Vec<(usize, Match)>,
    strengths: Vec<Match>,
    name: Vec<u8>,
}

/// A column and what the fast way knows of it.
struct Slot {
    column: Column,
    quick: Quick,
    days: DayCache,
}

/// The shape of value that the fast way reads in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quick {
    BigInt,
    Integer,
    Timestamp,
    Text,
    None,
}

impl JsonDecoder {
    /// # Errors
    /// 0A000 for a column whose type records do not carry.
    pub fn new(columns: Vec<JsonColumn>, options: JsonOptions) -> Result<JsonDecoder> {
        let mut wishes = Vec::new();
        let mut whole = Vec::new();
        let mut slots = Vec::with_capacity(columns.len());
        let mut fields = Vec::with_capacity(columns.len());
        for (place, JsonColumn { field, path }) in columns.into_iter().enumerate() {
            match path.as_deref() {
                Some([]) => whole.push(place),
                path => add_wish(&mut wishes, place, field.name(), path),
            }
            let field = Arc::new(field);
            slots.push(Slot::new(Column::new(Arc::clone(&field))?));
            fields.push(field);
        }
        Ok(JsonDecoder {
            schema: Arc::new(Schema::new(fields)),
            options,
            strengths: vec![Match::None; wishes.len()],
            wishes,
            whole,
            spans: vec![None; slots.len()],
            columns: slots,
            rows: 0,
            layouts: Layouts::new(JSON_LAYOUT_NODES_MAX),
            pause: 0,
            scratch: Scratch::default(),
            visited: Vec::new(),
            matched: Vec::new(),
            name: Vec::new(),
        })
    }

    /// The row by the fast way, or nothing at all: then columns may hold parts of the row.
    #[inline]
    fn push_fast(&mut self, record: &[u8]) -> Option<()> {
        let mut place = self.layouts.start();
        let mut at = 0;
        while let Some((next, take, start)) = self.layouts.advance(place, record, at) {
            at = match take {
                Take::Skip => value_end(record, start, 1).ok()?,
                Take::Column(column) => self.take_value(record, start, column)?,
                Take::Wish(wish) => self.take_wish(record, start, wish)?,
            };
            place = next;
        }
        let absent = self.layouts.absent(place)?;
        if &record[at..] != b"}" {
            let brace = skip_space(record, at);
            let is_end =
                record.get(brace) == Some(&b'}') && skip_space(record, brace + 1) == record.len();
            is_end.then_some(())?;
        }
        for &column in absent {
            self.columns[column].column.push_null().ok()?;
        }
        Some(())
    }

    #[inline]
    fn take_value(&mut self, record: &[u8], start: usize, column: usize) -> Option<usize> {
        let slot = &mut self.columns[column];
        if let Some(end) = slot.push_quick(record, start, self.options.timestamp_unit) {
            return Some(end);
        }
        let end = value_end(record, start, 1).ok()?;
        self.convert(record, column, Span { start, end }).ok()?;
        Some(end)
    }

    fn take_wish(&mut self, record: &[u8], start: usize, wish: usize) -> Option<usize> {
        let end = value_end(record, start, 1).ok()?;
        let wish = &self.wishes[wish];
        wish.for_each_column(&mut |column| self.spans[column] = None);
        fulfil(wish, record, Span { start, end }, &mut self.spans).ok()?;
        let mut conversion = Conversion {
            record,
            unit: self.options.timestamp_unit,
            scratch: &mut self.scratch,
        };
        push_wish(wish, &mut self.columns, &self.spans, &mut conversion).ok()?;
        Some(end)
    }

    fn convert(
        &mut self,
        record: &[u8],
        column: usize,
        span: Span,
    ) -> std::result::Result<(), Reject> {
        let unit = self.options.timestamp_unit;
        let mut conversion = Conversion {
            record,
            unit,
            scratch: &mut self.scratch,
        };
        conversion.push(&mut self.columns[column].column, span)
    }

    /// The row by the full rules with its bad values, or the reason why there is no row.
    fn push_full(&mut self, record: &[u8]) -> std::result::Result<Vec<BadValue>, String> {
        let is_plain = self
            .find_values(record)
            .map_err(|fault| fault.to_string())?;
        let columns = 0..self.columns.len();
        let bad = columns
            .filter_map(|column| {
                let reason = self.push_column(record, column).err()?;
                Some(BadValue { column, reason })
            })
            .collect();
        if is_plain && self.pause == 0 {
            let absent = self.absent_columns();
            if self.layouts.learn(record, &self.visited, &absent) {
                self.pause = JSON_LAYOUT_PAUSE_RECORDS;
            }
        }
        Ok(bad)
    }

    /// Appends the column's value, or what stands for it and then the reason why.
    fn push_column(&mut self, record: &[u8], column: usize) -> std::result::Result<(), String> {
        let (result, value) = match self.spans[column] {
            Some(span) => (
                self.convert(record, column, span),
                &record[span.start..span.end],
            ),
            None => (self.columns[column].column.push_null(), &record[..0]),
        };
        let Err(reject) = result else { return Ok(()) };
        let target = &mut self.columns[column].column;
        target.truncate(self.rows);
        if self.options.on_error == OnError::Null && target.push_null().is_ok() {
            return Ok(());
        }
        target.push_stand_in();
        Err(describe(target, value, &reject))
    }

    /// Checks the whole record and finds where each column's value is. Returns whether a layout
    /// can be learned from it.
    fn find_values(&mut self, record: &[u8]) -> std::result::Result<bool, Fault> {
        self.spans.fill(None);
        self.strengths.fill(Match::None);
        self.visited.clear();
        let mut is_plain = self.whole.is_empty();
        let open = skip_space(record, 0);
        if record.get(open) != Some(&b'{') {
            value_end(record, open, 0)?;
            return Err(Fault {
                at: open,
                what: "the record is not an object",
            });
        }
        let mut fields = Fields::new(record, open, 1);
        let mut behind = 0;
        while let Some(field) = fields.next()? {
            let inside = Span {
                start: field.name.start + 1,
                end: field.name.end - 1,
            };
            is_plain &= self.match_name(record, inside, field.escaped);
            let take = match self.matched[..] {
                [] => Take::Skip,
                [(wish, _)] => self.take_of(wish),
                _ => {
                    is_plain = false;
                    Take::Skip
                }
            };
            for place in 0..self.matched.len() {
                let (wish, strength) = self.matched[place];
                is_plain &= self.strengths[wish] == Match::None;
                if strength >= self.strengths[wish] {
                    self.strengths[wish] = strength;
                    fulfil(&self.wishes[wish], record, field.value, &mut self.spans)?;
                }
            }
            let literal = Span {
                start: behind,
                end: field.value.start,
            };
            self.visited.push(Visited { literal, take });
            behind = field.value.end;
        }
        let end = skip_space(record, fields.at);
        if end != record.len() {
            return Err(Fault {
                at: end,
                what: "the record goes on behind the object",
            });
        }
        for &column in &self.whole {
            self.spans[column] = Some(Span {
                start: open,
                end: fields.at,
            });
        }
        Ok(is_plain)
    }

    /// Puts the wishes for a field into `matched`. False for a name that cannot be read.
    fn match_name(&mut self, record: &[u8], inside: Span, escaped: bool) -> bool {
        self.matched.clear();
        let mut name = &record[inside.start..inside.end];
        if escaped {
            self.name.clear();
            if unescape(name, &mut self.name).is_err() {
                return false;
            }
            name = &self.name;
        }
        match_field(&self.wishes, name, &mut self.matched);
        true
    }

    /// The columns that none of the visited fields provides for, not even with a NULL.
    fn absent_columns(&self) -> Vec<usize> {
        let mut is_absent = vec![true; self.columns.len()];
        for field in &self.visited {
            match field.take {
                Take::Skip => {}
                Take::Column(column) => is_absent[column] = false,
                Take::Wish(wish) => {
                    self.wishes[wish].for_each_column(&mut |column| is_absent[column] = false);
                }
            }
        }
        (0..self.columns.len())
            .filter(|&column| is_absent[column])
            .collect()
    }

    fn take_of(&self, wish: usize) -> Take {
        match &self.wishes[wish] {
            Wish {
                columns, inside, ..
            } if inside.is_empty() && columns.len() == 1 => Take::Column(columns[0]),
            _ => Take::Wish(wish),
        }
    }

    fn truncate(&mut self) {
        for slot in &mut self.columns {
            slot.column.truncate(self.rows);
        }
    }

    /// The row by the full rules only: what the fast way is measured against.
    #[cfg(test)]
    pub fn push_by_full_rules(
        &mut self,
        record: &[u8],
    ) -> std::result::Result<Vec<BadValue>, String> {
        let bad = self.push_full(record)?;
        self.rows += 1;
        Ok(bad)
    }

    #[cfg(test)]
    pub fn push_by_fast_way(&mut self, record: &[u8]) -> bool {
        let is_pushed = self.push_fast(record).is_some();
        match is_pushed {
            true => self.rows += 1,
            false => self.truncate(),
        }
        is_pushed
    }

    #[cfg(test)]
    pub fn layout_nodes(&self) -> usize {
        self.layouts.nodes()
    }
}

impl Decoder for JsonDecoder {
    fn push(&mut self, payload: &[u8]) -> std::result::Result<Vec<BadValue>, String> {
        if self.pause > 0 {
            self.pause -= 1;
        } else if self.push_fast(payload).is_some() {
            self.rows += 1;
            return Ok(Vec::new());
        } else {
            self.truncate();
        }
        let bad = self.push_full(payload)?;
        self.rows += 1;
        Ok(bad)
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn finish(&mut self) -> Result<RecordBatch> {
        let arrays = self
            .columns
            .iter_mut()
            .map(|slot| slot.column.finish())
            .collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        self.rows = 0;
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)
            .map_err(|error| Error::internal(format!("a decoded batch: {error}")))
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

impl Slot {
    fn new(column: Column) -> Self {
        let quick = match (column.field().data_type(), column.sql_type()) {
            (DataType::Int64, _) => Quick::BigInt,
            (DataType::Int32, _) => Quick::Integer,
            (DataType::Timestamp(_, _), _) => Quick::Timestamp,
            (DataType::Utf8, SqlType::Text | SqlType::Varchar(None)) => Quick::Text,
            _ => Quick::None,
        };
        Slot {
            column,
            quick,
            days: DayCache::default(),
        }
    }

    /// Appends the value at `start` if it has the common shape of the column's type; returns the
    /// position behind it.
    #[inline]
    fn push_quick(
        &mut self,
        record: &[u8],
        start: usize,
        unit: Option<TimestampUnit>,
    ) -> Option<usize> {
        let end = match (self.quick, self.column.values()) {
            (Quick::BigInt, Values::Int64(values)) => {
                let (value, end) = quick::whole(record, start)?;
                values.push(value);
                end
            }
            (Quick::Integer, Values::Int32(values)) => {
                let (value, end) = quick::whole(record, start)?;
                values.push(i32::try_from(value).ok()?);
                end
            }
            (Quick::Timestamp, Values::Int64(values)) => {
                let (micros, end) = if record.get(start) == Some(&b'"') {
                    quick::timestamp(record, start, &mut self.days)?
                } else {
                    let (number, end) = quick::whole(record, start)?;
                    (number.checked_mul(unit?.micros())?, end)
                };
                if !TIMESTAMP_MICROS.contains(&micros) {
                    return None;
                }
                values.push(micros);
                end
            }
            (Quick::Text, Values::Bytes(bytes)) => {
                if record.get(start) != Some(&b'"') {
                    return None;
                }
                let scanned = string_end(record, start).ok()?;
                if scanned.escaped {
                    return None;
                }
                bytes.push(&record[start + 1..scanned.end - 1]).ok()?;
                scanned.end
            }
            _ => return None,
        };
        self.column.mark_valid();
        Some(end)
    }
}

fn push_wish(
    wish: &Wish,
    columns: &mut [Slot],
    spans: &[Option<Span>],
    conversion: &mut Conversion<'_>,
) -> std::result::Result<(), Reject> {
    for &column in &wish.columns {
        let target = &mut columns[column].column;
        match spans[column] {
            Some(span) => conversion.push(target, span)?,
            None => target.push_null()?,
        }
    }
    for wish in &wish.inside {
        push_wish(wish, columns, spans, conversion)?;
    }
    Ok(())
}

/// Appends the value of a JSON text that stands outside of a record, such as a CSV field.
pub(in crate::format) fn push_json_text(
    column: &mut Column,
    text: &[u8],
    unit: Option<TimestampUnit>,
) -> std::result::Result<(), Reject> {
    let start = skip_space(text, 0);
    let end = value_end(text, start, 0).map_err(|_| Reject::NotA)?;
    if skip_space(text, end) != text.len() {
        return Err(Reject::NotA);
    }
    let mut scratch = Scratch::default();
    Conversion {
        record: text,
        unit,
        scratch: &mut scratch,
    }
    .push(column, Span { start, end })
}
