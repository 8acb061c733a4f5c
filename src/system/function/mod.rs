//! Functions that clients call over the system relations.
//!
//! Each is a plain function from values to a value ([`Entry`]), evaluated row by row: they are
//! called for the rows of a catalog, and being easy to read is worth more here than speed.
//!
//! ```text
//!   format_type(a.atttypid, a.atttypmod)
//!     arrays ──► Arguments of a row ──► body(snapshot, arguments) ──► Cell ──► array
//! ```
//!
//! Reading order: this file, then `session`, `catalog`, `names`, `text`, `list`.

pub mod catalog;
mod list;
mod names;
mod session;
mod text;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::common::exec_err;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};
use datafusion::scalar::ScalarValue;

use crate::error::{Error, Result, SqlState};
use crate::system::rows::{Cell, array};
use crate::system::snapshot::SystemSnapshot;
use crate::types::SqlType;

/// A function's definition.
pub struct Entry {
    pub name: &'static str,
    pub arguments: RangeInclusive<usize>,
    pub returns: Returns,
    pub kind: Kind,
    pub body: Body,
}

/// What a function gives.
#[derive(Clone, Copy)]
pub enum Returns {
    Boolean,
    Integer,
    BigInt,
    Text,
    Texts,
    Timestamptz,
}

/// When a function is called, and what it may depend on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Depends on its arguments only; NULL if one of them is.
    Pure,
    /// As `Pure`, but called with NULLs too.
    PureWithNulls,
    /// Depends on the snapshot; NULL if an argument is.
    Stable,
    /// As `Stable`, but called with NULLs too.
    StableWithNulls,
    /// Changes something; called once per row.
    Volatile,
}

pub type Body = fn(&SystemSnapshot, &Arguments<'_>) -> Result<Cell>;

/// The arguments of one row.
pub struct Arguments<'a> {
    function: &'static str,
    values: &'a [ScalarValue],
}

impl Arguments<'_> {
    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn is_null(&self, index: usize) -> bool {
        self.values.get(index).is_none_or(ScalarValue::is_null)
    }

    /// A whole number, also one that is written as text; `None` for NULL and where there is none.
    ///
    /// # Errors
    /// 42883 when it is no number.
    pub fn integer(&self, index: usize) -> Result<Option<i64>> {
        if self.is_null(index) {
            return Ok(None);
        }
        let number = self.values[index].cast_to(&DataType::Int64);
        match number {
            Ok(ScalarValue::Int64(number)) => Ok(number),
            _ => Err(self.mismatch(index, "a number")),
        }
    }

    /// As [`Arguments::integer`], for an oid: 0 stands for what is none.
    ///
    /// # Errors
    /// As [`Arguments::integer`].
    pub fn oid(&self, index: usize) -> Result<u32> {
        let number = self.integer(index)?.unwrap_or(0);
        Ok(u32::try_from(number).unwrap_or(0))
    }

    /// A text; a value of another type as it is written.
    ///
    /// # Errors
    /// 42883 when it cannot be written as text.
    pub fn text(&self, index: usize) -> Result<Option<String>> {
        if self.is_null(index) {
            return Ok(None);
        }
        let text = self.values[index].cast_to(&DataType::Utf8);
        match text {
            Ok(ScalarValue::Utf8(text)) => Ok(text),
            _ => Err(self.mismatch(index, "a text")),
        }
    }

    /// The elements of a list; `None` for NULL.
    ///
    /// # Errors
    /// 42883 when it is no list.
    pub fn list(&self, index: usize) -> Result<Option<ArrayRef>> {
        match self.values.get(index) {
            None => Ok(None),
            Some(value) if value.is_null() => Ok(None),
            Some(ScalarValue::List(list)) => Ok(Some(list.value(0))),
            Some(ScalarValue::LargeList(list)) => Ok(Some(list.value(0))),
            Some(_) => Err(self.mismatch(index, "an array")),
        }
    }

    pub fn value(&self, index: usize) -> Option<&ScalarValue> {
        self.values.get(index)
    }

    fn mismatch(&self, index: usize, wanted: &str) -> Error {
        let place = index + 1;
        let message = format!(
            "argument {place} of function {} is not {wanted}",
            self.function
        );
        Error::new(SqlState::UNDEFINED_FUNCTION, message)
    }
}

impl Returns {
    fn sql_type(self) -> SqlType {
        match self {
            Returns::Boolean => SqlType::Boolean,
            Returns::Integer => SqlType::Integer,
            Returns::BigInt => SqlType::BigInt,
            Returns::Text => SqlType::Text,
            Returns::Texts => SqlType::Array(Box::new(SqlType::Text)),
            Returns::Timestamptz => SqlType::Timestamptz,
        }
    }
}

fn entries() -> impl Iterator<Item = &'static Entry> {
    let tables = [
        session::ENTRIES,
        catalog::ENTRIES,
        names::ENTRIES,
        text::ENTRIES,
        list::ENTRIES,
    ];
    tables.into_iter().flatten()
}

/// The function of a name that answers from a snapshot, the session's among them; `None` where
/// there is none, or one that depends on its arguments only, which [`register`] has registered.
/// Some have names of DataFusion's own and are meant to take their place (`version`).
///
/// A statement asks for those that it names: making all of them costs more than a lookup by key.
pub fn function(
    snapshot: impl FnOnce() -> Arc<SystemSnapshot>,
    name: &str,
) -> Option<Arc<ScalarUDF>> {
    let entry = of_snapshot().find(|entry| entry.name == name)?;
    Some(udf(entry, &snapshot()))
}

/// The names that [`function`] knows.
pub fn function_names() -> impl Iterator<Item = &'static str> {
    of_snapshot().map(|entry| entry.name)
}

fn of_snapshot() -> impl Iterator<Item = &'static Entry> {
    entries().filter(|entry| match entry.kind {
        Kind::Stable | Kind::StableWithNulls | Kind::Volatile => true,
        Kind::Pure | Kind::PureWithNulls => false,
    })
}

/// Registers the functions that depend on their arguments only: they may be used in views.
///
/// # Errors
/// As the registry's: an internal error.
pub fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    let nothing = Arc::new(SystemSnapshot::default());
    let is_pure = |entry: &&Entry| matches!(entry.kind, Kind::Pure | Kind::PureWithNulls);
    let pure = entries().filter(is_pure).map(|entry| udf(entry, &nothing));
    for function in pure.chain(list::functions()) {
        let name = function.name().to_string();
        registry
            .register_udf(function)
            .map_err(|cause| Error::internal(format!("cannot register {name}: {cause}")))?;
    }
    Ok(())
}

fn udf(entry: &'static Entry, snapshot: &Arc<SystemSnapshot>) -> Arc<ScalarUDF> {
    let volatility = match entry.kind {
        Kind::Pure | Kind::PureWithNulls => Volatility::Immutable,
        Kind::Stable | Kind::StableWithNulls => Volatility::Stable,
        Kind::Volatile => Volatility::Volatile,
    };
    let signature = TypeSignature::OneOf(vec![TypeSignature::Nullary, TypeSignature::VariadicAny]);
    Arc::new(ScalarUDF::new_from_impl(SystemFunction {
        entry,
        snapshot: snapshot.clone(),
        signature: Signature::new(signature, volatility),
    }))
}

/// An entry as DataFusion calls it.
struct SystemFunction {
    entry: &'static Entry,
    snapshot: Arc<SystemSnapshot>,
    signature: Signature,
}

impl SystemFunction {
    fn call(&self, values: &[ScalarValue]) -> Result<Cell> {
        let takes_nulls = matches!(
            self.entry.kind,
            Kind::PureWithNulls | Kind::StableWithNulls | Kind::Volatile
        );
        if !takes_nulls && values.iter().any(ScalarValue::is_null) {
            return Ok(Cell::Null);
        }
        (self.entry.body)(
            &self.snapshot,
            &Arguments {
                function: self.entry.name,
                values,
            },
        )
    }
}

impl fmt::Debug for SystemFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SystemFunction({})", self.entry.name)
    }
}

impl PartialEq for SystemFunction {
    fn eq(&self, other: &Self) -> bool {
        self.entry.name == other.entry.name && Arc::ptr_eq(&self.snapshot, &other.snapshot)
    }
}

impl Eq for SystemFunction {}

impl Hash for SystemFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.entry.name.hash(state);
    }
}

impl ScalarUDFImpl for SystemFunction {
    fn name(&self) -> &str {
        self.entry.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> DataFusionResult<DataType> {
        if !self.entry.arguments.contains(&arguments.len()) {
            let name = self.entry.name;
            let message = format!(
                "function {name} with {} arguments does not exist",
                arguments.len()
            );
            let error = Error::new(SqlState::UNDEFINED_FUNCTION, message);
            return Err(DataFusionError::External(Box::new(error)));
        }
        Ok(self.entry.returns.sql_type().data_type())
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let is_constant = call
            .args
            .iter()
            .all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let is_once = is_constant && self.entry.kind != Kind::Volatile;
        let count = if is_once { 1 } else { call.number_rows };
        let mut cells = Vec::with_capacity(count);
        for row in 0..count {
            let values = call.args.iter().map(|argument| match argument {
                ColumnarValue::Scalar(value) => Ok(value.clone()),
                ColumnarValue::Array(array) => ScalarValue::try_from_array(array, row),
            });
            let values = values.collect::<DataFusionResult<Vec<_>>>()?;
            cells.push(self.call(&values).map_err(external)?);
        }
        let cells: Vec<&Cell> = cells.iter().collect();
        let result = array(&self.entry.returns.sql_type(), &cells).map_err(external)?;
        if !is_once {
            return Ok(ColumnarValue::Array(result));
        }
        if result.is_empty() {
            return exec_err!("{} gave nothing", self.entry.name);
        }
        Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(
            &result, 0,
        )?))
    }
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
