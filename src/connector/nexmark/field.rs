//! Columns of Nexmark sources: which field a column is, and its values straight into Arrow arrays.
//!
//! | type | columns (and other names for them) |
//! | --- | --- |
//! | bid | auction, bidder, price, channel, url |
//! | auction | id, itemName (item), description, initialBid, reserve, expires, seller, category |
//! | person | id, name, emailAddress (email), creditCard, city, state |
//! | all | dateTime (ts, timestamp, eventTime), extra |
//!
//! Case and underscores do not count: `date_time` is `dateTime`. Times are TIMESTAMP or TIMESTAMPTZ
//! columns, texts TEXT or VARCHAR, numbers BIGINT, NUMERIC, DOUBLE PRECISION or TEXT; amounts
//! and `category` fit an INTEGER, too.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray, TimestampMicrosecondArray,
};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef, TimeUnit};

use crate::connector::generator::reader::RowMaker;
use crate::connector::nexmark::NexmarkType;
use crate::connector::nexmark::event::Events;
use crate::error::{Error, Result, SqlState};
use crate::types::SqlType;

/// A field of an event.
#[derive(Clone, Copy, Debug)]
enum Source {
    Number(fn(&Events, u64) -> i64, NumberKind),
    /// Milliseconds since 1970.
    Time(fn(&Events, u64) -> i64),
    Text(fn(&Events, u64, &mut Vec<u8>)),
}

/// Which integer types hold a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NumberKind {
    /// Ids grow with the stream.
    Id,
    /// Below 2^31.
    Small,
}

/// A column and the field that fills it.
#[derive(Clone, Debug)]
pub(super) struct ColumnSource {
    pub field: FieldRef,
    source: Source,
}

const PERSON: [(&[&str], Source); 8] = [
    (
        &["id", "person"],
        Source::Number(Events::person_id, NumberKind::Id),
    ),
    (&["name"], Source::Text(Events::push_name)),
    (&["emailaddress", "email"], Source::Text(Events::push_email)),
    (&["creditcard"], Source::Text(Events::push_card)),
    (
        &["city"],
        Source::Text(|events, n, out| out.extend_from_slice(events.city(n).as_bytes())),
    ),
    (
        &["state"],
        Source::Text(|events, n, out| out.extend_from_slice(events.state(n).as_bytes())),
    ),
    (
        &["datetime", "ts", "timestamp", "eventtime"],
        Source::Time(Events::time_millis),
    ),
    (&["extra"], Source::Text(Events::push_person_extra)),
];

const AUCTION: [(&[&str], Source); 10] = [
    (
        &["id", "auction"],
        Source::Number(Events::auction_id, NumberKind::Id),
    ),
    (&["itemname", "item"], Source::Text(Events::push_item)),
    (&["description"], Source::Text(Events::push_description)),
    (
        &["initialbid"],
        Source::Number(Events::initial_bid, NumberKind::Small),
    ),
    (
        &["reserve"],
        Source::Number(Events::reserve, NumberKind::Small),
    ),
    (
        &["datetime", "ts", "timestamp", "eventtime"],
        Source::Time(Events::time_millis),
    ),
    (&["expires"], Source::Time(Events::expires_millis)),
    (&["seller"], Source::Number(Events::seller, NumberKind::Id)),
    (
        &["category"],
        Source::Number(Events::category, NumberKind::Small),
    ),
    (&["extra"], Source::Text(Events::push_auction_extra)),
];

const BID: [(&[&str], Source); 7] = [
    (
        &["auction"],
        Source::Number(Events::bid_auction, NumberKind::Id),
    ),
    (&["bidder"], Source::Number(Events::bidder, NumberKind::Id)),
    (&["price"], Source::Number(Events::price, NumberKind::Small)),
    (
        &["channel"],
        Source::Text(|events, n, out| out.extend_from_slice(events.channel(n))),
    ),
    (
        &["url"],
        Source::Text(|events, n, out| out.extend_from_slice(events.url(n))),
    ),
    (
        &["datetime", "ts", "timestamp", "eventtime"],
        Source::Time(Events::time_millis),
    ),
    (&["extra"], Source::Text(Events::push_bid_extra)),
];

impl ColumnSource {
    /// # Errors
    /// 42P16 when the events have no such field, or none of the column's type.
    pub fn new(kind: NexmarkType, field: &Field) -> Result<ColumnSource> {
        let fields: &[(&[&str], Source)] = match kind {
            NexmarkType::Person => &PERSON,
            NexmarkType::Auction => &AUCTION,
            NexmarkType::Bid => &BID,
        };
        let wanted = field.name().to_lowercase().replace('_', "");
        let found = fields
            .iter()
            .find(|(names, _)| names.contains(&wanted.as_str()));
        let Some(&(_, source)) = found else {
            let names: Vec<&str> = fields.iter().map(|(names, _)| names[0]).collect();
            return Err(invalid(format!(
                "column \"{}\" is not a field of Nexmark's {}",
                field.name(),
                kind.plural()
            ))
            .hint(format!("the fields are: {}", names.join(", "))));
        };
        source.check(field)?;
        Ok(ColumnSource {
            field: Arc::new(field.clone()),
            source,
        })
    }
}

impl Source {
    fn check(self, field: &Field) -> Result<()> {
        let (fits, good) = match self {
            Source::Number(_, kind) => (
                match field.data_type() {
                    DataType::Int64 | DataType::Float64 | DataType::Utf8 => true,
                    // An id may need nineteen digits in front of the point.
                    DataType::Decimal128(precision, scale) => {
                        i16::from(*precision) - i16::from(*scale) >= 19
                    }
                    DataType::Int32 => kind == NumberKind::Small,
                    _ => false,
                },
                "bigint",
            ),
            Source::Time(_) => (
                matches!(
                    field.data_type(),
                    DataType::Timestamp(TimeUnit::Microsecond, _)
                ),
                "timestamp or timestamptz",
            ),
            Source::Text(_) => (
                matches!(SqlType::of(field)?, SqlType::Text | SqlType::Varchar(None)),
                "text or varchar",
            ),
        };
        if fits {
            return Ok(());
        }
        let (name, sql_type) = (field.name(), SqlType::of(field)?);
        Err(invalid(format!(
            "column \"{name}\" of a Nexmark source cannot be {sql_type}"
        ))
        .hint(format!("declare it {good}")))
    }

    fn make(self, events: &Events, numbers: &[u64], data_type: &DataType) -> Result<ArrayRef> {
        let array: ArrayRef = match self {
            Source::Number(value, _) => {
                let values: Vec<i64> = numbers.iter().map(|&n| value(events, n)).collect();
                let array = Int64Array::from(values);
                if data_type == &DataType::Int64 {
                    Arc::new(array)
                } else {
                    cast(&array, data_type)
                        .map_err(|error| Error::internal(format!("a Nexmark column: {error}")))?
                }
            }
            Source::Time(value) => {
                let micros: Vec<i64> = numbers
                    .iter()
                    .map(|&n| value(events, n).saturating_mul(1_000))
                    .collect();
                let zone = match data_type {
                    DataType::Timestamp(_, zone) => zone.clone(),
                    _ => None,
                };
                Arc::new(TimestampMicrosecondArray::from(micros).with_timezone_opt(zone))
            }
            Source::Text(push) => Arc::new(texts(events, numbers, push)?),
        };
        Ok(array)
    }
}

/// Room for a text before its length is known: most are shorter, and growing is rare and cheap.
const TEXT_BYTES: usize = 64;

fn texts(
    events: &Events,
    numbers: &[u64],
    push: fn(&Events, u64, &mut Vec<u8>),
) -> Result<StringArray> {
    let mut data = Vec::with_capacity(numbers.len() * TEXT_BYTES);
    let mut offsets = Vec::with_capacity(numbers.len() + 1);
    offsets.push(0);
    for &number in numbers {
        push(events, number, &mut data);
        offsets.push(i32::try_from(data.len()).expect("a chunk's short texts are below 2 GiB"));
    }
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    StringArray::try_new(offsets, Buffer::from_vec(data), None)
        .map_err(|error| Error::internal(format!("a Nexmark column: {error}")))
}

/// Makes rows of one type of events.
pub(super) struct Rows {
    pub events: Events,
    pub columns: Vec<ColumnSource>,
    pub schema: SchemaRef,
    /// Columns that are made and thrown away.
    pub unwanted: Vec<ColumnSource>,
}

impl RowMaker for Rows {
    fn make(&mut self, numbers: &[u64]) -> Result<RecordBatch> {
        let make = |column: &ColumnSource| {
            column
                .source
                .make(&self.events, numbers, column.field.data_type())
        };
        let arrays = self.columns.iter().map(make).collect::<Result<Vec<_>>>()?;
        for column in &self.unwanted {
            drop(std::hint::black_box(make(column)?));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(numbers.len()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)
            .map_err(|error| Error::internal(format!("a batch of Nexmark events: {error}")))
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

fn invalid(message: String) -> Error {
    Error::new(SqlState::INVALID_TABLE_DEFINITION, message)
}
