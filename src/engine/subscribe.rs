//! SUBSCRIBE: the changes of a relation as they are published.
//!
//! A subscription keeps no queue: it reads the view's history after the epoch it has reached, sends
//! that, and waits for the next epoch. A client that is too slow falls out of the history's bound
//! and
//! is told so (53400).
//!
//! ```text
//!   snapshot at 41:  (41, +1, …) (41, +1, …)      then:  (44, −1, old) (44, +1, new)  (47, +1, …)
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use tokio::sync::{oneshot, watch};

use crate::base::memory::Held;
use crate::base::{Epoch, ObjectId};
use crate::dataflow::{Command, NewView, Progress, Published};
use crate::delta::DeltaBatch;
use crate::engine::define;
use crate::engine::opening::Opening;
use crate::engine::response::{BatchStream, Cancel, Response, RowsTag};
use crate::engine::server::{Engine, stopped};
use crate::engine::session::Session;
use crate::error::{Error, Result, SqlState};
use crate::plan::{Planner, ViewOptions, plan_view};
use crate::sql::statement::RelationOrQuery;
use crate::sql::watch::{Subscribe, SubscribeEnvelope};
use crate::view::ChangeSet;

impl Session {
    pub(super) async fn subscribe(
        &mut self,
        subscribe: &Subscribe,
        cancel: Cancel,
    ) -> Result<Response> {
        let (schema, batches) = self.subscription(subscribe, cancel).await?;
        Ok(Response::Rows {
            schema,
            batches,
            tag: RowsTag("SUBSCRIBE".to_string()),
        })
    }

    pub(super) async fn subscription_schema(&self, subscribe: &Subscribe) -> Result<SchemaRef> {
        let relation = match &subscribe.input {
            RelationOrQuery::Relation(name) => {
                let catalog = self.catalog();
                let object = catalog
                    .resolve(name.name())
                    .map_err(|error| name.position().mark(error))?;
                Self::refuse_source_only(object.kind(), "SUBSCRIBE")?;
                object.relation.schema.clone()
            }
            RelationOrQuery::Query(query) => {
                let catalog = self.catalog();
                let template = &self.shared().template;
                let resolve = define::resolver(template, &catalog);
                let planner = Planner::new(template, &resolve);
                plan_view(&planner, query, &[], &ViewOptions::default())?.schema
            }
        };
        Ok(change_schema(&relation, subscribe.progress))
    }

    /// The stream of a subscription.
    pub(super) async fn subscription(
        &mut self,
        subscribe: &Subscribe,
        cancel: Cancel,
    ) -> Result<(SchemaRef, BatchStream)> {
        if subscribe.envelope != SubscribeEnvelope::Diff {
            return Err(
                Error::unsupported("ENVELOPE UPSERT and DEBEZIUM are not supported")
                    .hint("leave it out: every change comes as (epoch, diff, row)"),
            );
        }
        let schema = self.subscription_schema(subscribe).await?;
        let (id, temporary) = match &subscribe.input {
            RelationOrQuery::Relation(name) => {
                let catalog = self.catalog();
                let object = catalog.resolve(name.name())?;
                self.shared().check_ready(object)?;
                (object.id(), None)
            }
            RelationOrQuery::Query(query) => {
                if subscribe.as_of.is_some() {
                    return Err(Error::unsupported("AS OF needs a view")
                        .hint("create a materialized view and subscribe to it"));
                }
                let temporary = self.temporary_view(query, &cancel).await?;
                (temporary.id, Some(temporary))
            }
        };
        let held = self.hold_memory();
        let follower = Follower {
            published: self.engine.published().clone(),
            id,
            schema: schema.clone(),
            progress: subscribe.progress,
            up_to: subscribe.up_to.map(Epoch),
            _temporary: temporary,
        };
        let as_of = subscribe.as_of.map(Epoch);
        let (opening, at) = follower.start(subscribe.snapshot, as_of, held)?;
        Ok((schema, follower.stream(opening, at)))
    }

    /// A view that lives as long as its subscription.
    async fn temporary_view(
        &self,
        query: &crate::sql::ast::Query,
        cancel: &Cancel,
    ) -> Result<Temporary> {
        let catalog = self.catalog();
        let shared = self.shared();
        let plan = {
            let resolve = define::resolver(&shared.template, &catalog);
            let planner = Planner::new(&shared.template, &resolve);
            plan_view(&planner, query, &[], &ViewOptions::default())?
        };
        let (id, _) = shared.next_id()?;
        let temporary = Temporary {
            engine: self.engine.clone(),
            id,
        };
        let progress = Arc::new(Progress::default());
        let (done, answer) = oneshot::channel();
        let name = "subscription".to_string();
        let view = NewView {
            id,
            name,
            plan,
            progress: progress.clone(),
            checkpoints: None,
            done,
        };
        shared.runtime.send(Command::AddView(Box::new(view)))?;
        tokio::select! {
            built = answer => built.map_err(|_| stopped())??,
            () = cancel.cancelled() => {
                progress.cancel();
                cancel.check()?;
                return Err(Error::internal("a cancel that is none"));
            }
        };
        Ok(temporary)
    }
}

/// Drops the view of a subscription with it.
struct Temporary {
    engine: Engine,
    id: ObjectId,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let (done, _) = oneshot::channel();
        let command = Command::Drop {
            ids: vec![self.id],
            done,
        };
        if self.engine.0.runtime.send(command).is_err() {
            tracing::debug!("the server stopped before a subscription's view was dropped");
        }
    }
}

/// Follows one relation.
struct Follower {
    published: Arc<Published>,
    id: ObjectId,
    schema: SchemaRef,
    progress: bool,
    up_to: Option<Epoch>,
    _temporary: Option<Temporary>,
}

impl Follower {
    /// The rows that it begins with and the epoch that they bring the client to.
    fn start(
        &self,
        snapshot: bool,
        as_of: Option<Epoch>,
        held: Held,
    ) -> Result<(Option<Opening>, Epoch)> {
        let frame = self.published.frame(&[self.id], &[])?;
        let (epoch, mut snapshots) = (frame.epoch, frame.snapshots);
        let at = as_of.unwrap_or(epoch);
        if at > epoch {
            return Err(Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("epoch {at} has not come yet"),
            )
            .detail(format!("the newest epoch is {epoch}")));
        }
        // Refuses an epoch that is gone, with and without a snapshot.
        let (_, since) = self.published.changes_since(self.id, at)?;
        if let Some(end) = self.up_to
            && (end < at || as_of.is_none() && end == at)
        {
            let oldest = self.published.oldest_epoch(self.id)?;
            let hint = match oldest < end {
                true => format!("AS OF {oldest} UP TO {end} gives the changes in between"),
                false => "leave out UP TO, or give an epoch that is still to come".to_string(),
            };
            return Err(Error::new(
                SqlState::INVALID_PARAMETER_VALUE,
                format!("UP TO {end} is not after epoch {at}, with which the subscription begins"),
            )
            .detail(format!(
                "the oldest epoch that it can begin with is {oldest}"
            ))
            .hint(hint));
        }
        if !snapshot {
            return Ok((None, at));
        }
        let now = snapshots
            .pop()
            .ok_or_else(|| Error::internal("a snapshot was asked for"))?;
        // A step may have been published since the snapshot was taken.
        let mut since = since;
        since.retain(|change| change.epoch <= epoch);
        Ok((Some(Opening::new(now, &since, held)?), at))
    }

    /// The rows of one epoch's change.
    fn batch(&self, epoch: Epoch, delta: &DeltaBatch) -> Result<RecordBatch> {
        let rows = delta.len();
        let number = i64::try_from(epoch.0).map_err(|_| Error::internal("epochs fit a bigint"))?;
        let mut columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![number; rows]))];
        if self.progress {
            columns.push(Arc::new(BooleanArray::from(vec![false; rows])));
        }
        columns.push(Arc::new(Int64Array::new(delta.explicit_weights(), None)));
        columns.extend(delta.rows().columns().iter().cloned());
        RecordBatch::try_new(self.schema.clone(), columns).map_err(crate::delta::arrow_error)
    }

    /// The row that says only that everything up to an epoch has been sent.
    fn progress_row(&self, epoch: Epoch) -> Result<RecordBatch> {
        let number = i64::try_from(epoch.0).map_err(|_| Error::internal("epochs fit a bigint"))?;
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![number])),
            Arc::new(BooleanArray::from(vec![true])),
        ];
        let rest = self.schema.fields().iter().skip(2);
        columns.extend(rest.map(|field| arrow::array::new_null_array(field.data_type(), 1)));
        RecordBatch::try_new(self.schema.clone(), columns).map_err(crate::delta::arrow_error)
    }

    fn stream(self, opening: Option<Opening>, at: Epoch) -> BatchStream {
        let following = Following {
            epochs: self.published.watch(),
            follower: self,
            opening,
            begun: at,
            at,
            ready: VecDeque::new(),
            is_over: false,
        };
        let next = |mut following: Following| async move {
            let batch = following.next().await?;
            Ok(batch.map(|batch| (batch, following)))
        };
        Box::pin(futures::stream::try_unfold(following, next))
    }
}

/// How far a subscription is.
struct Following {
    follower: Follower,
    epochs: watch::Receiver<Epoch>,
    /// What is still to be given of the rows that it begins with, and their epoch.
    opening: Option<Opening>,
    begun: Epoch,
    /// Everything up to here has been sent or is ready.
    at: Epoch,
    /// Changes that wait for the client, as the history has them: its bound bounds them.
    ready: VecDeque<Ready>,
    is_over: bool,
}

/// What is sent next.
enum Ready {
    Change(ChangeSet),
    Progress(Epoch),
}

impl Following {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(opening) = &mut self.opening {
                match opening.next()? {
                    Some(rows) => return self.follower.batch(self.begun, &rows).map(Some),
                    None => self.opening = None,
                }
            }
            match self.ready.pop_front() {
                Some(Ready::Change(change)) => {
                    let batch = self.follower.batch(change.epoch, &change.delta);
                    return batch.map(Some);
                }
                Some(Ready::Progress(epoch)) => return self.follower.progress_row(epoch).map(Some),
                None if self.is_over => return Ok(None),
                None => {}
            }
            self.epochs.borrow_and_update();
            self.read()?;
            let is_idle = self.ready.is_empty() && !self.is_over;
            if is_idle && self.epochs.changed().await.is_err() {
                return Err(stopped());
            }
        }
    }

    /// Takes what has been published since.
    fn read(&mut self) -> Result<()> {
        let follower = &self.follower;
        let (newest, changes) = follower.published.changes_since(follower.id, self.at)?;
        let is_behind = |epoch: Epoch| follower.up_to.is_some_and(|end| epoch >= end);
        for change in changes {
            if is_behind(change.epoch) {
                self.is_over = true;
                break;
            }
            self.ready.push_back(Ready::Change(change));
        }
        self.is_over |= is_behind(newest.next());
        if follower.progress && newest > self.at {
            self.ready.push_back(Ready::Progress(newest));
        }
        self.at = newest;
        Ok(())
    }
}

/// (epoch, [progressed,] diff, the relation's columns).
fn change_schema(relation: &SchemaRef, progress: bool) -> SchemaRef {
    let mut fields = vec![Field::new("epoch", DataType::Int64, false)];
    if progress {
        fields.push(Field::new("progressed", DataType::Boolean, false));
    }
    // NULL in a row that only tells progress.
    fields.push(Field::new("diff", DataType::Int64, true));
    fields.extend(
        relation
            .fields()
            .iter()
            .map(|f| f.as_ref().clone().with_nullable(true)),
    );
    Arc::new(Schema::new(fields))
}
