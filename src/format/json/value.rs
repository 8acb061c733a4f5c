//! JSON values into columns: the meaning of each kind of value for each type.
//!
//! | JSON | becomes |
//! | --- | --- |
//! | `null` | NULL |
//! | a string | what its text means to the type ([`crate::format::text`]) |
//! | a number | numbers, exactly; timestamps by `timestamp.unit`; text as written |
//! | `true`, `false` | boolean; text as written |
//! | an object | a struct by member names; text or jsonb as written |
//! | an array | a list; text or jsonb as written |
//!
//! A `jsonb` column takes any value as written, strings with their quotes. Names of struct members
//! match as those of columns do ([`crate::format::json::wish`]). An integer for a boolean, and a
//! number with a fraction for an integer, are refused rather than guessed at.

use crate::format::column::{Column, Reject, Values};
use crate::format::json::scan::{FieldSpan, Fields, Items, Span, unescape};
use crate::format::json::wish::{Match, match_name};
use crate::format::text::{
    TimestampUnit, check_length, push_boolean, push_bytes, push_number, push_text,
};
use crate::types::SqlType;

/// Room that conversions share, so that none allocates per value.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// The text of a string with escapes.
    text: Vec<u8>,
    /// For each member of the structs being read where its value is and how its name matched.
    members: Vec<(Match, Span)>,
}

/// The parts of a conversion that stay the same from value to value.
pub(super) struct Conversion<'a> {
    pub record: &'a [u8],
    pub unit: Option<TimestampUnit>,
    pub scratch: &'a mut Scratch,
}

impl Conversion<'_> {
    /// Appends the (valid) value at `span`.
    ///
    /// On an error the column may hold part of a value: truncate it.
    pub fn push(&mut self, column: &mut Column, span: Span) -> Result<(), Reject> {
        let record = self.record;
        let value = &record[span.start..span.end];
        if value == b"null" {
            return column.push_null();
        }
        if column.sql_type() == &SqlType::Jsonb {
            return push_bytes(column, value);
        }
        match value.first() {
            Some(b'"') => self.push_string(column, &value[1..value.len() - 1]),
            Some(b't' | b'f') if matches!(column.sql_type(), SqlType::Boolean) => {
                push_boolean(column, value == b"true")
            }
            Some(b'-' | b'0'..=b'9') => push_number(column, value, self.unit),
            Some(b'{') if matches!(column.sql_type(), SqlType::Struct(_)) => {
                self.push_struct(column, span)
            }
            Some(b'[') if matches!(column.sql_type(), SqlType::Array(_)) => {
                self.push_list(column, span)
            }
            _ => match *column.sql_type() {
                SqlType::Text => push_bytes(column, value),
                SqlType::Varchar(limit) => {
                    check_length(&String::from_utf8_lossy(value), limit)?;
                    push_bytes(column, value)
                }
                _ => Err(Reject::NotA),
            },
        }
    }

    fn push_string(&mut self, column: &mut Column, inside: &[u8]) -> Result<(), Reject> {
        let reject = |why: &str| Reject::Because(why.to_string());
        let is_plain = !inside.contains(&b'\\');
        if matches!(column.sql_type(), SqlType::Text)
            && let Values::Bytes(bytes) = column.values()
        {
            if is_plain {
                bytes.push(inside)?;
            } else {
                unescape(inside, bytes.open()).map_err(reject)?;
                bytes.close()?;
            }
            column.mark_valid();
            return Ok(());
        }
        let text = if is_plain {
            inside
        } else {
            self.scratch.text.clear();
            unescape(inside, &mut self.scratch.text).map_err(reject)?;
            &self.scratch.text
        };
        let text = std::str::from_utf8(text).map_err(|_| Reject::NotA)?;
        push_text(column, text, self.unit)
    }

    fn push_list(&mut self, column: &mut Column, span: Span) -> Result<(), Reject> {
        let Values::List { ends, items } = column.values() else {
            return Err(Reject::NotA);
        };
        let mut walk = Items::new(self.record, span.start, 1);
        while let Some(item) = walk
            .next()
            .map_err(|fault| Reject::Because(fault.to_string()))?
        {
            self.push(items, item)?;
        }
        let end = i32::try_from(items.rows())
            .map_err(|_| Reject::Because("does not fit the batch".to_string()))?;
        ends.push(end);
        column.mark_valid();
        Ok(())
    }

    fn push_struct(&mut self, column: &mut Column, span: Span) -> Result<(), Reject> {
        let Values::Struct(members) = column.values() else {
            return Err(Reject::NotA);
        };
        let base = self.scratch.members.len();
        let nothing = (Match::None, Span { start: 0, end: 0 });
        self.scratch.members.resize(base + members.len(), nothing);
        let result = self.push_members(members, span, base);
        self.scratch.members.truncate(base);
        result?;
        column.mark_valid();
        Ok(())
    }

    fn push_members(
        &mut self,
        members: &mut [Column],
        span: Span,
        base: usize,
    ) -> Result<(), Reject> {
        let mut walk = Fields::new(self.record, span.start, 1);
        while let Some(field) = walk
            .next()
            .map_err(|fault| Reject::Because(fault.to_string()))?
        {
            self.note_member(members, &field, base);
        }
        for (place, member) in members.iter_mut().enumerate() {
            match self.scratch.members[base + place] {
                (Match::None, _) => member.push_null()?,
                (_, value) => self.push(member, value)?,
            }
        }
        Ok(())
    }

    /// Remembers the field's value for the members that its name matches; a later field of the
    /// same match wins.
    fn note_member(&mut self, members: &[Column], field: &FieldSpan, base: usize) {
        let inside = &self.record[field.name.start + 1..field.name.end - 1];
        let name = if field.escaped {
            self.scratch.text.clear();
            if unescape(inside, &mut self.scratch.text).is_err() {
                return;
            }
            &self.scratch.text
        } else {
            inside
        };
        let is_taken = members
            .iter()
            .any(|member| member.field().name().as_bytes() == name);
        for (place, member) in members.iter().enumerate() {
            let found = match match_name(member.field().name(), name) {
                Match::Folded if is_taken => Match::None,
                found => found,
            };
            let best = &mut self.scratch.members[base + place];
            if found != Match::None && found >= best.0 {
                *best = (found, field.value);
            }
        }
    }
}
