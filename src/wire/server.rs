//! The listener: connections counted, logged in, served, and told when the server stops.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::startup::{
    Authentication, BackendKeyData, NegotiateProtocolVersion, ParameterStatus, SecretKey, Startup,
};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use crate::base::limits::{
    CONNECTIONS_MAX, CONNECTIONS_REFUSED_MAX, LOGIN_SECONDS_MAX, MESSAGE_BYTES_MAX,
    NOTICES_QUEUED_MAX, SHUTDOWN_GRACE_MS,
};
use crate::engine::{Entrance, Session};
use crate::error::{Error, Result, SqlState};
use crate::wire::cancels::{Cancels, Registration};
use crate::wire::client::{Client, Stop};
use crate::wire::connection::Connection;
use crate::wire::counters::Counters;
use crate::wire::inbound::Inbound;
use crate::wire::outbound::{Outbound, Severity};
use crate::wire::startup::{Login, Opening, open};

/// Connections that the system holds until they are accepted.
const BACKLOG: u32 = 1024;

/// Pause after the system refused a connection for want of something: trying on would only burn.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Settings that clients expect to be told at login, with the values of a session that has none.
const REPORTED: [(&str, &str); 13] = [
    (
        "server_version",
        concat!("15.0 (Tidemill ", env!("CARGO_PKG_VERSION"), ")"),
    ),
    ("server_encoding", "UTF8"),
    ("client_encoding", "UTF8"),
    ("DateStyle", "ISO, MDY"),
    ("IntervalStyle", "postgres"),
    ("TimeZone", "UTC"),
    ("integer_datetimes", "on"),
    ("standard_conforming_strings", "on"),
    ("application_name", ""),
    ("is_superuser", "on"),
    ("default_transaction_read_only", "off"),
    ("in_hot_standby", "off"),
    ("session_authorization", ""),
];

/// What a user may change about the listener.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    pub connections_max: usize,
    /// The largest message after login, in bytes.
    pub message_bytes_max: usize,
    /// The time from accepting a connection to its login.
    pub login_time_max: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        ServerOptions {
            connections_max: CONNECTIONS_MAX,
            message_bytes_max: MESSAGE_BYTES_MAX,
            login_time_max: Duration::from_secs(LOGIN_SECONDS_MAX),
        }
    }
}

/// The Postgres protocol's server. There is no password: whoever reaches the address is let in,
/// so it is loopback unless its owner knows better.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// What every connection needs.
struct Shared {
    entrance: Entrance,
    options: ServerOptions,
    cancels: Arc<Cancels>,
    counters: Arc<Counters>,
    connections: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
}

/// How a connection was counted; it is until the permit is dropped.
struct Admission {
    kind: AdmissionKind,
    permit: OwnedSemaphorePermit,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum AdmissionKind {
    Let,
    /// It is told that there are too many; a cancel request is obeyed.
    Refused,
}

impl Server {
    /// Binds `address`; port 0 takes a free one.
    pub async fn listen(
        address: SocketAddr,
        entrance: Entrance,
        options: ServerOptions,
    ) -> Result<Server> {
        let listener = bind(address)
            .map_err(|error| Error::io(format!("cannot listen on {address}"), &error))?;
        let address = listener
            .local_addr()
            .map_err(|error| Error::io(format!("cannot tell the port of {address}"), &error))?;
        let connections = Arc::new(Semaphore::new(options.connections_max));
        let shared = Arc::new(Shared {
            entrance,
            options,
            cancels: Arc::new(Cancels::default()),
            counters: Arc::new(Counters::default()),
            connections,
            refusals: Arc::new(Semaphore::new(CONNECTIONS_REFUSED_MAX)),
        });
        Ok(Server {
            listener,
            address,
            shared,
        })
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.shared.counters)
    }

    /// Serves until `shutdown` resolves; then every client is told, and after a grace period the
    /// connections that have not ended are cut.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Server {
            listener, shared, ..
        } = self;
        let (stop, stopping) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        let Some(admission) = shared.admit() else {
                            continue;
                        };
                        let shared = Arc::clone(&shared);
                        let stopping = stopping.clone();
                        connections.spawn(async move {
                            let serving = serve(&shared, stream, admission.kind, stopping);
                            if AssertUnwindSafe(serving).catch_unwind().await.is_err() {
                                tracing::error!(%peer, "a connection ended in a panic");
                            }
                            shared.leave(admission);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
        drop(listener);
        stop.send_replace(true);
        let ended = async { while connections.join_next().await.is_some() {} };
        // Twice the grace of a single farewell: a statement may need its own to end.
        let grace = 2 * Duration::from_millis(SHUTDOWN_GRACE_MS);
        if tokio::time::timeout(grace, ended).await.is_err() {
            tracing::warn!("connections that did not end in time are cut");
        }
        connections.shutdown().await;
    }
}

impl Shared {
    /// Counts a connection before anything is read from it; `None` = not even told.
    fn admit(&self) -> Option<Admission> {
        if let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() {
            self.counters.connections_opened.add(1);
            return Some(Admission {
                kind: AdmissionKind::Let,
                permit,
            });
        }
        self.counters.connections_refused.add(1);
        let permit = Arc::clone(&self.refusals).try_acquire_owned().ok()?;
        Some(Admission {
            kind: AdmissionKind::Refused,
            permit,
        })
    }

    /// Counts a connection that has ended.
    fn leave(&self, admission: Admission) {
        let Admission { kind, permit } = admission;
        if kind == AdmissionKind::Let {
            self.counters.connections_closed.add(1);
        }
        drop(permit);
    }
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A restart must not wait for the last run's connections to time out.
    socket.set_reuseaddr(true)?;
    // Accepted sockets inherit it: a client whose machine has died is noticed at last.
    socket.set_keepalive(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn serve(
    shared: &Shared,
    mut stream: TcpStream,
    kind: AdmissionKind,
    mut stopping: watch::Receiver<bool>,
) {
    // Answers are written whole; waiting for more to fill a packet only adds latency.
    let _ = stream.set_nodelay(true);
    let opening = tokio::select! {
        opening = open(&mut stream) => opening,
        () = tokio::time::sleep(shared.options.login_time_max) => Err(Stop::Gone),
        _ = stopping.wait_for(|is_stopping| *is_stopping) => Err(Stop::Fatal(Error::new(
            SqlState::CANNOT_CONNECT_NOW,
            "the database system is shutting down",
        ))),
    };
    match (opening, kind) {
        (Ok(Opening::Cancel { process_id, secret }), _) => {
            shared.counters.cancel_requests.add(1);
            shared.cancels.cancel(process_id, secret);
        }
        (Ok(Opening::Login(login)), AdmissionKind::Let) => {
            start(shared, stream, login, stopping).await;
        }
        (Ok(Opening::Login(_)), AdmissionKind::Refused) => {
            let error = Error::new(
                SqlState::TOO_MANY_CONNECTIONS,
                "sorry, too many clients already",
            )
            .hint("close idle connections or use a connection pool");
            refuse(Outbound::new(stream), &error).await;
        }
        (Err(Stop::Fatal(error) | Stop::Failed(error)), _) => {
            refuse(Outbound::new(stream), &error).await;
        }
        (Err(Stop::Gone), _) => {}
    }
}

/// Logs a client in and serves it.
async fn start(shared: &Shared, stream: TcpStream, login: Login, stopping: watch::Receiver<bool>) {
    let (reader, writer) = stream.into_split();
    let mut outbound = Outbound::new(writer);
    let (notice_tx, notices) = mpsc::channel(NOTICES_QUEUED_MAX);
    if login.is_newer {
        let version = Startup::PROTOCOL_VERSION_3_0;
        let answer = NegotiateProtocolVersion::new(version, login.unknown_options);
        outbound.send(PgWireBackendMessage::NegotiateProtocolVersion(answer));
    }
    let user = login.parameters.user.clone();
    let opened = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let engine = shared.entrance.engine()?;
        engine.session(login.parameters, notice_tx)
    }));
    let session = match opened {
        Ok(Ok(session)) => session,
        Ok(Err(error)) => return refuse(outbound, &error).await,
        Err(_) => {
            return refuse(
                outbound,
                &Error::internal("the session could not be opened"),
            )
            .await;
        }
    };
    let registration = shared.cancels.register();
    welcome(&mut outbound, &session, &registration, &user);
    let inbound = Inbound::new(reader, shared.options.message_bytes_max);
    let client = Client::new(inbound, outbound, notices, stopping);
    let counters = Arc::clone(&shared.counters);
    Connection::new(client, session, registration, counters)
        .serve()
        .await;
}

/// What a client is told before its first statement.
fn welcome(outbound: &mut Outbound, session: &Session, registration: &Registration, user: &str) {
    outbound.send(PgWireBackendMessage::Authentication(Authentication::Ok));
    for (name, default) in REPORTED {
        let default = if name == "session_authorization" {
            user
        } else {
            default
        };
        let value = session.setting(name).unwrap_or_else(|| default.to_string());
        let status = ParameterStatus::new(name.to_string(), value);
        outbound.send(PgWireBackendMessage::ParameterStatus(status));
    }
    outbound.send(PgWireBackendMessage::BackendKeyData(BackendKeyData::new(
        registration.process_id,
        SecretKey::I32(registration.secret),
    )));
}

async fn refuse(mut outbound: Outbound, error: &Error) {
    outbound.error(Severity::Fatal, error);
    let grace = Duration::from_millis(SHUTDOWN_GRACE_MS);
    // Who does not read the refusal does not need it.
    let _ = tokio::time::timeout(grace, outbound.finish()).await;
}
