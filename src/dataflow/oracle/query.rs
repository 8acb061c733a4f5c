//! A query to be tried: the views over each other, and what a batch is asked for each of them.

use crate::dataflow::oracle::model::{Cut, NEVER, WindowUse};
use crate::dataflow::oracle::relation::{Row, SECOND};
use crate::plan::RetentionMode;

/// When a view's rows appear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emits {
    OnUpdate,
    /// What was there at the end of the last step that fired. A view below such a one is like it,
    /// or always up to date.
    Every,
    /// As soon as the watermark of every source has passed the time in the column by so many
    /// microseconds, and not before.
    OnClose {
        column: usize,
        behind: i64,
    },
    /// Not before that, but perhaps later: what holds time back is no source.
    OnCloseOrLater {
        column: usize,
    },
    /// At the latest when the watermark of every source has passed the time by so many
    /// microseconds: a join of several sources may know earlier that a row is final.
    OnCloseOrEarlier {
        column: usize,
        behind: i64,
    },
}

/// One view.
#[derive(Clone)]
pub struct View {
    pub sql: String,
    pub batch: String,
    pub emits: Emits,
    pub retention: Option<Kept>,
}

/// How long a view's rows stay, by the time in a column; seconds.
#[derive(Clone, Copy)]
pub struct Kept {
    pub column: usize,
    pub seconds: i64,
    pub mode: RetentionMode,
    /// The time is a window's end, which has passed when the watermark is there; else that of an
    /// event, which has when the watermark is behind it.
    pub is_end: bool,
}

impl Kept {
    /// Whether a row of that time is there.
    pub fn keeps(&self, time: Option<i64>, watermark: i64) -> bool {
        let Some(time) = time.filter(|_| watermark != NEVER) else {
            return true;
        };
        let over = time + self.seconds * SECOND;
        match self.is_end {
            true => over > watermark,
            false => over >= watermark,
        }
    }
}

/// How a query asks for the clock.
const CLOCKS: [&str; 2] = ["now()", "current_timestamp"];

/// What a row that fails is called, and which rows those are.
pub type Failing = (&'static str, fn(&Row) -> bool);

/// Views `v0`, `v1`, … over the relations and those before them.
#[derive(Clone)]
pub struct Case {
    pub views: Vec<View>,
    pub windows: Vec<WindowUse>,
    pub lateness: i64,
    /// The rows that an expression fails on.
    pub failing: Option<Failing>,
    /// The rows are kept for ever: sources without windows.
    pub keeps: bool,
    /// `state_ttl` of every view, microseconds.
    pub ttl: Option<i64>,
}

/// A view of this text. `{0}`, `{1}` … are its windows, in the batch the model's rows `w0`, `w1` ….
pub fn query(sql: &str) -> Case {
    let view = View {
        sql: sql.to_string(),
        batch: sql.to_string(),
        emits: Emits::OnUpdate,
        retention: None,
    };
    Case {
        views: vec![view],
        windows: Vec::new(),
        lateness: 0,
        failing: None,
        keeps: false,
        ttl: None,
    }
}

impl Case {
    /// A further view over those before.
    pub fn then(mut self, sql: &str) -> Case {
        let view = View {
            sql: sql.to_string(),
            batch: sql.to_string(),
            emits: Emits::OnUpdate,
            retention: None,
        };
        self.views.push(view);
        self
    }

    /// What a batch is asked in place of the last view's text.
    pub fn batch(mut self, sql: &str) -> Case {
        self.last().batch = sql.to_string();
        self
    }

    pub fn tumble(self, relation: &'static str, size: i64) -> Case {
        let sql = format!("TUMBLE({relation}, ts, INTERVAL '{size} seconds')");
        self.window(&sql, relation, [size, size, 0])
    }

    pub fn hop(self, relation: &'static str, slide: i64, size: i64) -> Case {
        let sql =
            format!("HOP({relation}, ts, INTERVAL '{slide} seconds', INTERVAL '{size} seconds')");
        self.window(&sql, relation, [slide, size, 0])
    }

    pub fn cumulate(self, relation: &'static str, step: i64, size: i64) -> Case {
        let sql = format!(
            "CUMULATE({relation}, ts, INTERVAL '{step} seconds', INTERVAL '{size} seconds')"
        );
        let (step, size) = (step * SECOND, size * SECOND);
        self.cut(&sql, relation, Cut::Cumulate { step, size })
    }

    /// Sessions of the values of some columns, which are named and numbered.
    pub fn session(
        self,
        relation: &'static str,
        partition_by: &str,
        keys: &'static [usize],
        gap: i64,
    ) -> Case {
        let by = match keys.is_empty() {
            true => String::new(),
            false => format!(" PARTITION BY {partition_by}"),
        };
        let sql = format!("SESSION({relation}{by}, ts, INTERVAL '{gap} seconds')");
        let gap = gap * SECOND;
        self.cut(&sql, relation, Cut::Session { gap, keys })
    }

    /// `state_ttl`, seconds.
    pub fn ttl(mut self, seconds: i64) -> Case {
        self.ttl = Some(seconds * SECOND);
        self
    }

    /// The rows themselves, each for as long as the `state_ttl`, or with keys as long as one of
    /// their key comes so often.
    pub fn lives(self, relation: &'static str, keys: Option<&'static [usize]>) -> Case {
        let ttl = self.ttl.expect("how long rows live is said before");
        self.cut(relation, relation, Cut::Life { ttl, keys })
    }

    /// The rows themselves, less those behind the watermark.
    pub fn timed(self, relation: &'static str) -> Case {
        self.cut(relation, relation, Cut::Moment)
    }

    /// A window written in another way; lengths in seconds.
    pub fn window(
        self,
        sql: &str,
        relation: &'static str,
        [slide, size, offset]: [i64; 3],
    ) -> Case {
        let cut = Cut::Hop {
            slide: slide * SECOND,
            size: size * SECOND,
            offset: offset * SECOND,
        };
        self.cut(sql, relation, cut)
    }

    /// Any window.
    pub fn cut(mut self, sql: &str, relation: &'static str, cut: Cut) -> Case {
        self.windows.push(WindowUse {
            sql: sql.to_string(),
            relation,
            cut,
            lateness: 0,
            filter: None,
            by_clock: false,
        });
        self
    }

    /// The last window is over processing time.
    pub fn by_clock(mut self) -> Case {
        self.windows.last_mut().expect("a window").by_clock = true;
        self
    }

    /// Whether windows close by the clock.
    pub fn closes_by_clock(&self) -> bool {
        self.windows.iter().any(|window| window.by_clock)
    }

    /// Only these rows reach the last window.
    pub fn filter(mut self, filter: fn(&Row) -> bool) -> Case {
        self.windows.last_mut().expect("a window to filter").filter = Some(filter);
        self
    }

    /// With the window that ends at the time in this column.
    pub fn closes(self, column: usize) -> Case {
        self.closes_behind(column, 0)
    }

    /// When the watermark is behind the time in this column, and not just at it.
    pub fn closes_after(mut self, column: usize) -> Case {
        self.last().emits = Emits::OnClose { column, behind: 1 };
        self
    }

    /// When the watermark is behind the time so many seconds after it.
    pub fn closes_after_seconds(mut self, column: usize, seconds: i64) -> Case {
        let behind = seconds * SECOND + 1;
        self.last().emits = Emits::OnClose { column, behind };
        self
    }

    /// So many seconds after the time in this column.
    pub fn closes_behind(mut self, column: usize, seconds: i64) -> Case {
        let behind = seconds * SECOND;
        self.last().emits = Emits::OnClose { column, behind };
        self
    }

    /// Merged, every so often.
    pub fn every(mut self) -> Case {
        self.last().emits = Emits::Every;
        self
    }

    /// Whether what is shown, until the clock has gone on, depends on where steps are cut.
    pub fn is_by_clock(&self) -> bool {
        self.views.iter().any(|view| view.emits == Emits::Every)
    }

    pub fn closes_or_later(mut self, column: usize) -> Case {
        self.last().emits = Emits::OnCloseOrLater { column };
        self
    }

    pub fn closes_or_earlier(self, column: usize) -> Case {
        self.closes_or_earlier_behind(column, 0)
    }

    /// So many seconds after the time in this column, or earlier.
    pub fn closes_or_earlier_behind(mut self, column: usize, seconds: i64) -> Case {
        let behind = seconds * SECOND;
        self.last().emits = Emits::OnCloseOrEarlier { column, behind };
        self
    }

    /// `allowed_lateness`, seconds.
    pub fn lateness(mut self, seconds: i64) -> Case {
        self.lateness = seconds * SECOND;
        self.windows
            .iter_mut()
            .for_each(|window| window.lateness = seconds * SECOND);
        self
    }

    /// The last view's rows leave so many seconds after the end of the window in the column.
    pub fn retention(mut self, column: usize, seconds: i64, mode: RetentionMode) -> Case {
        self.last().retention = Some(Kept {
            column,
            seconds,
            mode,
            is_end: true,
        });
        self
    }

    /// The same by the event time in the column.
    pub fn retention_of_events(mut self, column: usize, seconds: i64, mode: RetentionMode) -> Case {
        self = self.retention(column, seconds, mode);
        let kept = self.last().retention.as_mut();
        kept.expect("just set").is_end = false;
        self
    }

    pub fn failing(mut self, relation: &'static str, fails: fn(&Row) -> bool) -> Case {
        self.failing = Some((relation, fails));
        self
    }

    pub fn keeps(mut self) -> Case {
        self.keeps = true;
        self
    }

    fn last(&mut self) -> &mut View {
        self.views.last_mut().expect("a case has a view")
    }

    /// The view's text for the stream.
    pub fn stream_sql(&self, view: usize) -> String {
        let mut sql = self.views[view].sql.clone();
        for (number, window) in self.windows.iter().enumerate() {
            sql = sql.replace(&format!("{{{number}}}"), &window.sql);
        }
        sql
    }

    pub fn batch_sql(&self, view: usize) -> String {
        let mut sql = self.views[view].batch.clone();
        for number in 0..self.windows.len() {
            sql = sql.replace(&format!("{{{number}}}"), &format!("w{number}"));
        }
        for clock in CLOCKS {
            sql = sql.replace(clock, "(SELECT now FROM clock)");
        }
        sql
    }

    /// Whether a view asks for the clock.
    pub fn has_clock(&self) -> bool {
        if self.closes_by_clock() || self.ttl.is_some() {
            return true;
        }
        let text = (0..self.views.len()).map(|view| self.stream_sql(view));
        text.into_iter()
            .any(|sql| CLOCKS.iter().any(|clock| sql.contains(clock)))
    }

    pub fn name(&self) -> String {
        let views = self.views.iter().enumerate();
        let ttl = self
            .ttl
            .map_or_else(String::new, |ttl| format!(" [state_ttl {ttl}]"));
        let text = |(number, view): (usize, &View)| {
            let kept = match view.retention {
                None => String::new(),
                Some(kept) => format!(" [{:?} after {} s]", kept.mode, kept.seconds),
            };
            let sql = self.stream_sql(number);
            format!("v{number}: {sql} [{:?}]{kept}{ttl}", view.emits)
        };
        views.map(text).collect::<Vec<_>>().join("; ")
    }
}
