//! Window table functions: the one shape that every written form is rewritten to.
//!
//! In a parsed statement a window is always a
//! [`TableFactor::Table`](datafusion::sql::sqlparser::ast::TableFactor::Table) with arguments,
//! and the arguments are, in this order:
//!
//! ```text
//! TUMBLE  ((SELECT …), time, size              [, offset] [, zone => '…'])
//! HOP     ((SELECT …), time, slide, size       [, offset] [, zone => '…'])
//! CUMULATE((SELECT …), time, step, size        [, offset] [, zone => '…'])
//! SESSION ((SELECT …), time, gap      [, partition_by => ARRAY[k, …]])
//! ```
//!
//! The first is an [`Expr::Subquery`]; for a named table it is `SELECT * FROM name`. This is the
//! factor that a `RelationPlanner` of DataFusion is handed. It should read it with
//! [`WindowCall::of_table_factor`], plan [`WindowCall::input`] as a derived table **without an
//! alias**, so that the columns keep their qualifiers (`bids.price` goes on to mean something), and
//! append `window_start` and `window_end` **without a qualifier**. The alias of the factor applies
//! to all of it. Other expressions are planned against the input's schema.
//!
//! The text itself stays valid SQL: parsing what was printed gives the same tree.

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    Array, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgOperator, FunctionArguments,
    GroupByExpr, Ident, ObjectName, ObjectNamePart, Query, Select, SelectFlavor, SelectItem,
    SetExpr, TableAlias, TableFactor, TableFunctionArgs, TableWithJoins, WildcardAdditionalOptions,
};

use crate::error::{Error, Result, SqlState};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WindowKind {
    Tumble,
    Hop,
    Cumulate,
    Session,
}

impl WindowKind {
    pub const ALL: [WindowKind; 4] = [
        WindowKind::Tumble,
        WindowKind::Hop,
        WindowKind::Cumulate,
        WindowKind::Session,
    ];

    /// The window function of this name, in any case.
    pub fn from_name(name: &str) -> Option<WindowKind> {
        WindowKind::ALL
            .into_iter()
            .find(|kind| kind.name().eq_ignore_ascii_case(name))
    }

    pub fn name(self) -> &'static str {
        match self {
            WindowKind::Tumble => "TUMBLE",
            WindowKind::Hop => "HOP",
            WindowKind::Cumulate => "CUMULATE",
            WindowKind::Session => "SESSION",
        }
    }

    /// The positional parameters.
    fn parameters(self) -> &'static [Parameter] {
        use Parameter::{Data, Offset, Size, Slide, Time};
        match self {
            WindowKind::Tumble => &[Data, Time, Size, Offset],
            WindowKind::Hop | WindowKind::Cumulate => &[Data, Time, Slide, Size, Offset],
            WindowKind::Session => &[Data, Time, Size],
        }
    }

    /// The parameters by the names that Flink gives them, ours included.
    fn named(self) -> &'static [(&'static str, Parameter)] {
        use Parameter::{Data, Offset, PartitionBy, Size, Slide, Time, Zone};
        match self {
            WindowKind::Tumble => &[
                ("data", Data),
                ("timecol", Time),
                ("size", Size),
                ("offset", Offset),
                ("zone", Zone),
            ],
            WindowKind::Hop => &[
                ("data", Data),
                ("timecol", Time),
                ("slide", Slide),
                ("size", Size),
                ("offset", Offset),
                ("zone", Zone),
            ],
            WindowKind::Cumulate => &[
                ("data", Data),
                ("timecol", Time),
                ("step", Slide),
                ("size", Size),
                ("offset", Offset),
                ("zone", Zone),
            ],
            WindowKind::Session => &[
                ("data", Data),
                ("timecol", Time),
                ("gap", Size),
                ("partition_by", PartitionBy),
            ],
        }
    }

    /// How a call is written, for hints.
    pub fn usage(self) -> &'static str {
        match self {
            WindowKind::Tumble => "TUMBLE(table, time, size [, offset] [, zone => '…'])",
            WindowKind::Hop => "HOP(table, time, slide, size [, offset] [, zone => '…'])",
            WindowKind::Cumulate => "CUMULATE(table, time, step, size [, offset] [, zone => '…'])",
            WindowKind::Session => "SESSION(table [PARTITION BY key, …], time, gap)",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parameter {
    Data,
    Time,
    /// HOP's slide, CUMULATE's step.
    Slide,
    /// SESSION's gap.
    Size,
    Offset,
    Zone,
    PartitionBy,
}

/// A window over a relation.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowCall {
    pub kind: WindowKind,
    pub input: Box<Query>,
    /// The event time.
    pub time: Expr,
    /// HOP's slide or CUMULATE's step; `None` for the others.
    pub slide: Option<Expr>,
    /// The size; SESSION's gap.
    pub size: Expr,
    pub offset: Option<Expr>,
    /// The time zone whose wall clock cuts the windows.
    pub zone: Option<Expr>,
    /// SESSION's keys.
    pub partition_by: Vec<Expr>,
}

impl WindowCall {
    /// The call that `factor` is, with its alias; `None` if it is no window.
    ///
    /// # Errors
    /// As [`WindowCall::read`].
    pub fn of_table_factor(
        factor: &TableFactor,
    ) -> Result<Option<(WindowCall, Option<TableAlias>)>> {
        let TableFactor::Table {
            name,
            alias,
            args: Some(args),
            ..
        } = factor
        else {
            return Ok(None);
        };
        match kind_of(name) {
            Some(kind) => {
                let call = WindowCall::read(kind, args.args.clone())?;
                Ok(Some((call, alias.clone())))
            }
            None => Ok(None),
        }
    }

    /// Reads arguments in any of the written forms, once the tokens are prepared.
    ///
    /// # Errors
    /// 42883 for a missing, surplus or unknown argument, with the call's form as a hint.
    pub fn read(kind: WindowKind, args: Vec<FunctionArg>) -> Result<WindowCall> {
        let mut arguments = Arguments {
            kind,
            values: Vec::new(),
            partition_by: Vec::new(),
        };
        arguments.read(args)?;
        let input = query_of(arguments.required(Parameter::Data)?)
            .ok_or_else(|| wrong(kind, "must have a table or subquery as its first argument"))?;
        let time = column_of(kind, arguments.required(Parameter::Time)?)?;
        let slide = match kind {
            WindowKind::Hop | WindowKind::Cumulate => Some(arguments.required(Parameter::Slide)?),
            WindowKind::Tumble | WindowKind::Session => None,
        };
        Ok(WindowCall {
            kind,
            input,
            time,
            slide,
            size: arguments.required(Parameter::Size)?,
            offset: arguments.take(Parameter::Offset),
            zone: arguments.take(Parameter::Zone),
            partition_by: arguments.partition_by,
        })
    }

    /// The call as a table factor, in the shape that this module's front page shows.
    pub fn into_table_factor(self, alias: Option<TableAlias>) -> TableFactor {
        let name = ObjectName(vec![ObjectNamePart::Identifier(Ident::new(
            self.kind.name(),
        ))]);
        let positional = [
            Some(Expr::Subquery(self.input)),
            Some(self.time),
            self.slide,
            Some(self.size),
            self.offset,
        ];
        let mut args: Vec<FunctionArg> = positional
            .into_iter()
            .flatten()
            .map(|expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)))
            .collect();
        args.extend(self.zone.map(|zone| named("zone", zone)));
        if !self.partition_by.is_empty() {
            let keys = Expr::Array(Array {
                elem: self.partition_by,
                named: true,
            });
            args.push(named("partition_by", keys));
        }
        table_function(name, args, alias)
    }
}

/// The window that a function's name stands for.
pub(super) fn kind_of(name: &ObjectName) -> Option<WindowKind> {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(ident)] => WindowKind::from_name(&ident.value),
        _ => None,
    }
}

struct Arguments {
    kind: WindowKind,
    values: Vec<(Parameter, Expr)>,
    partition_by: Vec<Expr>,
}

impl Arguments {
    fn read(&mut self, args: Vec<FunctionArg>) -> Result<()> {
        let mut positional = self.kind.parameters().iter();
        let count = args.len();
        let mut in_keys = false;
        for (index, arg) in args.into_iter().enumerate() {
            match arg {
                FunctionArg::Named { name, arg, .. } => {
                    let parameter = self.parameter(&name.value)?;
                    let value = expr_of(self.kind, arg)?;
                    in_keys = parameter == Parameter::PartitionBy;
                    if in_keys {
                        self.partition_by = keys_of(value);
                    } else {
                        self.set(parameter, value)?;
                    }
                }
                // `PARTITION BY a, b, time, gap`: the last two are no keys.
                FunctionArg::Unnamed(arg) if in_keys && count - index > 2 => {
                    self.partition_by.push(expr_of(self.kind, arg)?);
                }
                FunctionArg::Unnamed(arg) => {
                    in_keys = false;
                    let parameter = positional
                        .next()
                        .ok_or_else(|| wrong(self.kind, "has too many arguments"))?;
                    self.set(*parameter, expr_of(self.kind, arg)?)?;
                }
                FunctionArg::ExprNamed { .. } => {
                    return Err(wrong(
                        self.kind,
                        "has an argument whose name is an expression",
                    ));
                }
            }
        }
        Ok(())
    }

    fn parameter(&self, name: &str) -> Result<Parameter> {
        let known = self.kind.named();
        let found = known
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, parameter)| *parameter).ok_or_else(|| {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            wrong(
                self.kind,
                &format!("has no argument \"{name}\", only {}", names.join(", ")),
            )
        })
    }

    fn set(&mut self, parameter: Parameter, value: Expr) -> Result<()> {
        if self.values.iter().any(|(known, _)| *known == parameter) {
            return Err(wrong(self.kind, "has an argument twice"));
        }
        self.values.push((parameter, value));
        Ok(())
    }

    fn take(&mut self, parameter: Parameter) -> Option<Expr> {
        let index = self
            .values
            .iter()
            .position(|(known, _)| *known == parameter)?;
        Some(self.values.swap_remove(index).1)
    }

    fn required(&mut self, parameter: Parameter) -> Result<Expr> {
        self.take(parameter)
            .ok_or_else(|| wrong(self.kind, "has too few arguments"))
    }
}

fn wrong(kind: WindowKind, what: &str) -> Error {
    Error::new(
        SqlState::UNDEFINED_FUNCTION,
        format!("window function {} {what}", kind.name()),
    )
    .hint(kind.usage())
}

fn expr_of(kind: WindowKind, arg: FunctionArgExpr) -> Result<Expr> {
    match arg {
        FunctionArgExpr::Expr(expr) => Ok(expr),
        FunctionArgExpr::Wildcard
        | FunctionArgExpr::QualifiedWildcard(_)
        | FunctionArgExpr::WildcardWithOptions(_) => Err(wrong(kind, "does not take \"*\"")),
    }
}

/// One key, `(a, b)` or `ARRAY[a, b]`.
fn keys_of(value: Expr) -> Vec<Expr> {
    match value {
        Expr::Tuple(keys) => keys,
        Expr::Array(array) => array.elem,
        Expr::Nested(key) => vec![*key],
        key => vec![key],
    }
}

/// The event time: any expression, or a column in `DESCRIPTOR(…)`.
fn column_of(kind: WindowKind, value: Expr) -> Result<Expr> {
    let Expr::Function(function) = value else {
        return Ok(value);
    };
    let is_descriptor = matches!(function.name.0.as_slice(),
        [ObjectNamePart::Identifier(name)] if name.value.eq_ignore_ascii_case("descriptor"));
    if !is_descriptor {
        return Ok(Expr::Function(function));
    }
    match function.args {
        FunctionArguments::List(mut list) if list.args.len() == 1 => match list.args.remove(0) {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(column)) => Ok(column),
            _ => Err(wrong(kind, "needs a column in DESCRIPTOR(…)")),
        },
        _ => Err(wrong(kind, "needs exactly one column in DESCRIPTOR(…)")),
    }
}

/// The first argument as a query: a subquery, a table's name, or another table function.
fn query_of(value: Expr) -> Option<Box<Query>> {
    let factor = match value {
        Expr::Subquery(query) => return Some(query),
        Expr::Nested(inner) => return query_of(*inner),
        Expr::Identifier(name) => table(ObjectName(vec![ObjectNamePart::Identifier(name)])),
        Expr::CompoundIdentifier(parts) => table(ObjectName(
            parts.into_iter().map(ObjectNamePart::Identifier).collect(),
        )),
        Expr::Function(function) => function_factor(function)?,
        _ => return None,
    };
    let from = TableWithJoins {
        relation: factor,
        joins: Vec::new(),
    };
    Some(Box::new(select_all(vec![from], None)))
}

/// A plain function call as a table factor.
pub(super) fn function_factor(function: Function) -> Option<TableFactor> {
    let is_plain = function.over.is_none()
        && function.filter.is_none()
        && function.within_group.is_empty()
        && function.null_treatment.is_none();
    match function.args {
        FunctionArguments::List(list)
            if is_plain && list.clauses.is_empty() && list.duplicate_treatment.is_none() =>
        {
            Some(table_function(function.name, list.args, None))
        }
        _ => None,
    }
}

fn named(name: &str, value: Expr) -> FunctionArg {
    FunctionArg::Named {
        name: Ident::new(name),
        arg: FunctionArgExpr::Expr(value),
        operator: FunctionArgOperator::RightArrow,
    }
}

fn table(name: ObjectName) -> TableFactor {
    TableFactor::Table {
        name,
        alias: None,
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    }
}

fn table_function(
    name: ObjectName,
    args: Vec<FunctionArg>,
    alias: Option<TableAlias>,
) -> TableFactor {
    let mut factor = table(name);
    if let TableFactor::Table {
        args: place,
        alias: alias_place,
        ..
    } = &mut factor
    {
        *place = Some(TableFunctionArgs {
            args,
            settings: None,
        });
        *alias_place = alias;
    }
    factor
}

/// `SELECT * FROM from WHERE selection`.
pub(super) fn select_all(from: Vec<TableWithJoins>, selection: Option<Expr>) -> Query {
    let select = Select {
        select_token: AttachedToken::empty(),
        optimizer_hints: Vec::new(),
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection: vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())],
        exclude: None,
        into: None,
        from,
        lateral_views: Vec::new(),
        prewhere: None,
        selection,
        connect_by: Vec::new(),
        group_by: GroupByExpr::Expressions(Vec::new(), Vec::new()),
        cluster_by: Vec::new(),
        distribute_by: Vec::new(),
        sort_by: Vec::new(),
        having: None,
        named_window: Vec::new(),
        qualify: None,
        window_before_qualify: false,
        value_table_mode: None,
        flavor: SelectFlavor::Standard,
    };
    Query {
        with: None,
        body: Box::new(SetExpr::Select(Box::new(select))),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    }
}
