//! Answers as a client sees them: over a socket in memory, with the server's own loops.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use bytes::{BufMut, BytesMut};
use futures::stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, watch};

use crate::base::limits::{CHUNK_ROWS_MAX, NOTICES_QUEUED_MAX, OUTBOUND_BYTES_MAX};
use crate::engine::{BatchStream, Cancel, CopyFormat, CopyWriter, Notice, Session, Severity};
use crate::error::{Error, Result, SqlState};
use crate::types::pg::{DateTimeStyle, Format};
use crate::wire::answer::Copy;
use crate::wire::client::{Client, Stop};
use crate::wire::frame::Message;
use crate::wire::inbound::Inbound;
use crate::wire::outbound::Outbound;
use crate::wire::rows::{Cursor, Encoder, RowEncoder, Sent, formats};
use crate::wire::running::Running;

/// A client's end of the connection, and the hands of those who act on it from elsewhere.
struct Peer {
    socket: DuplexStream,
    notices: mpsc::Sender<Notice>,
    shutdown: watch::Sender<bool>,
}

impl Peer {
    async fn read(&mut self) -> (u8, Vec<u8>) {
        let tag = self.socket.read_u8().await.unwrap();
        let length = usize::try_from(self.socket.read_u32().await.unwrap()).unwrap();
        let mut body = vec![0; length - 4];
        self.socket.read_exact(&mut body).await.unwrap();
        (tag, body)
    }

    async fn write(&mut self, tag: u8, body: &[u8]) {
        let mut frame = BytesMut::new();
        frame.put_u8(tag);
        frame.put_u32(u32::try_from(body.len() + 4).unwrap());
        frame.put_slice(body);
        self.socket.write_all(&frame).await.unwrap();
    }

    /// The bodies of the next `count` messages with this tag, as text.
    async fn texts(&mut self, tag: u8, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        while texts.len() < count {
            let (seen, body) = self.read().await;
            if seen == tag {
                texts.push(String::from_utf8_lossy(&body).into_owned());
            }
        }
        texts
    }
}

fn connected() -> (Client, Peer) {
    let (server, socket) = tokio::io::duplex(OUTBOUND_BYTES_MAX);
    let (reader, writer) = tokio::io::split(server);
    let (notices, notices_rx) = mpsc::channel(NOTICES_QUEUED_MAX);
    let (shutdown, shutdown_rx) = watch::channel(false);
    let client = Client::new(
        Inbound::new(reader, 1 << 20),
        Outbound::new(writer),
        notices_rx,
        shutdown_rx,
    );
    (
        client,
        Peer {
            socket,
            notices,
            shutdown,
        },
    )
}

fn running() -> Running {
    Running::new(Cancel::new(), None)
}

fn batch(ids: &[i64]) -> RecordBatch {
    let names = ids.iter().map(|id| (*id != 0).then(|| format!("n{id}")));
    RecordBatch::try_from_iter_with_nullable([
        (
            "id",
            Arc::new(Int64Array::from(ids.to_vec())) as ArrayRef,
            false,
        ),
        (
            "name",
            Arc::new(names.collect::<StringArray>()) as ArrayRef,
            true,
        ),
    ])
    .unwrap()
}

fn schema() -> SchemaRef {
    batch(&[]).schema()
}

fn cursor(batches: BatchStream) -> Cursor {
    let formats = formats(&[], 2).unwrap();
    let encoder = RowEncoder::new(&schema(), &formats, DateTimeStyle::default()).unwrap();
    Cursor::new(Encoder::Data(encoder), batches)
}

/// A stream that gives what is sent to it.
fn fed() -> (mpsc::UnboundedSender<RecordBatch>, BatchStream) {
    let (tx, rx) = mpsc::unbounded_channel();
    let batches = stream::unfold(rx, async |mut rx: mpsc::UnboundedReceiver<RecordBatch>| {
        rx.recv().await.map(|batch| (Ok(batch), rx))
    });
    (tx, Box::pin(batches))
}

fn fixed(batches: Vec<RecordBatch>) -> BatchStream {
    Box::pin(stream::iter(batches.into_iter().map(Ok)))
}

/// Rows without end, always ready; counts the batches that were asked for.
fn endless() -> (Arc<Mutex<usize>>, BatchStream) {
    let asked = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&asked);
    let ids: Vec<i64> = (1..=1000).collect();
    let batches = stream::repeat_with(move || {
        *counter.lock().unwrap() += 1;
        Ok(batch(&ids))
    });
    (asked, Box::pin(batches))
}

fn failed<T: std::fmt::Debug>(result: Result<T, Stop>) -> Error {
    match result {
        Err(Stop::Failed(error)) => error,
        other => panic!("{other:?} did not fail"),
    }
}

/// A DataRow of batch() as its two texts.
fn row(body: &[u8]) -> String {
    let mut rest = &body[2..];
    let mut texts = Vec::new();
    while let Some((length, value)) = rest.split_at_checked(4) {
        let length = i32::from_be_bytes(length.try_into().unwrap());
        let bytes = usize::try_from(length).unwrap_or(0);
        texts.push(match length {
            -1 => "NULL".to_string(),
            _ => String::from_utf8(value[..bytes].to_vec()).unwrap(),
        });
        rest = &value[bytes..];
    }
    texts.join(" ")
}

#[tokio::test]
async fn rows_go_out_while_the_next_are_waited_for() {
    let (mut client, mut peer) = connected();
    let (batches, stream) = fed();
    let sending =
        tokio::spawn(async move { cursor(stream).send(&mut client, &running(), None).await });
    batches.send(batch(&[1, 0])).unwrap();
    assert_eq!(row(&peer.read().await.1), "1 n1");
    assert_eq!(row(&peer.read().await.1), "0 NULL");
    batches.send(batch(&[2])).unwrap();
    assert_eq!(row(&peer.read().await.1), "2 n2");
    drop(batches);
    assert_eq!(sending.await.unwrap().unwrap(), Sent::All { rows: 3 });
}

#[tokio::test]
async fn a_portal_stops_and_goes_on_inside_a_batch() {
    let (mut client, mut peer) = connected();
    let mut cursor = cursor(fixed(vec![batch(&[1, 2, 3]), batch(&[4])]));
    for (asked, expected) in [
        (2, Sent::Some { rows: 2 }),
        (2, Sent::Some { rows: 2 }),
        (2, Sent::All { rows: 0 }),
    ] {
        let sent = cursor
            .send(&mut client, &running(), Some(asked))
            .await
            .unwrap();
        assert_eq!(sent, expected);
    }
    client.farewell(None).await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(row(&peer.read().await.1));
    }
    assert_eq!(seen, ["1 n1", "2 n2", "3 n3", "4 n4"]);
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_rows_and_can_cancel() {
    let (mut client, mut peer) = connected();
    let (asked, stream) = endless();
    let cancel = Cancel::new();
    let running = Running::new(cancel.clone(), None);
    let (done, finished) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let result = cursor(stream).send(&mut client, &running, None).await;
        done.send(result.map(|_| ())).unwrap();
        client
    });
    // The first rows have come; then nobody reads.
    peer.read().await;
    tokio::task::yield_now().await;
    let bytes_per_batch = 1000 * 20;
    assert!(*asked.lock().unwrap() <= 3 * OUTBOUND_BYTES_MAX / bytes_per_batch + 1);
    cancel.cancel();
    let error = failed(finished.await.unwrap());
    assert_eq!(error.state(), SqlState::QUERY_CANCELED);
}

#[tokio::test]
async fn ready_rows_without_end_are_cancelled_between_batches() {
    let (mut client, mut peer) = connected();
    let (_, stream) = endless();
    let cancel = Cancel::new();
    let running = Running::new(cancel.clone(), None);
    let reading = tokio::spawn(async move {
        for _ in 0..5000 {
            peer.read().await;
        }
        cancel.cancel();
        // Goes on reading, as clients do until they see the error.
        tokio::io::copy(&mut peer.socket, &mut tokio::io::sink())
            .await
            .unwrap();
    });
    let error = failed(cursor(stream).send(&mut client, &running, None).await);
    assert_eq!(error.state(), SqlState::QUERY_CANCELED);
    drop(client);
    reading.await.unwrap();
}

#[tokio::test]
async fn a_client_that_goes_ends_its_idle_stream() {
    let (mut client, peer) = connected();
    let cancel = Cancel::new();
    let running = Running::new(cancel.clone(), None);
    let mut cursor = cursor(Box::pin(stream::pending()));
    drop(peer.socket);
    let result = cursor.send(&mut client, &running, None).await;
    assert!(matches!(result, Err(Stop::Gone)), "{result:?}");
    assert!(cancel.is_cancelled());
}

#[tokio::test]
async fn a_statement_that_is_out_of_time_says_so() {
    let (mut client, _peer) = connected();
    let running = Running::new(Cancel::new(), Some(Duration::from_millis(1)));
    let mut cursor = cursor(Box::pin(stream::pending()));
    let error = failed(cursor.send(&mut client, &running, None).await);
    assert_eq!(error.state(), SqlState::QUERY_CANCELED);
    assert!(error.message().contains("statement timeout"));
}

#[tokio::test]
async fn the_servers_end_reaches_a_waiting_client() {
    let (mut client, peer) = connected();
    peer.shutdown.send_replace(true);
    let mut cursor = cursor(Box::pin(stream::pending()));
    let result = cursor.send(&mut client, &running(), None).await;
    match result {
        Err(Stop::Fatal(error)) => assert_eq!(error.state(), SqlState::ADMIN_SHUTDOWN),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn notices_arrive_while_a_statement_works() {
    let (mut client, mut peer) = connected();
    let (go, gone) = tokio::sync::oneshot::channel();
    let work = async move {
        gone.await.unwrap();
        Ok(7)
    };
    let running = running();
    let waiting = tokio::spawn(async move { client.wait(&running, work).await });
    let notice = Notice {
        severity: Severity::Notice,
        state: SqlState::INTERNAL_ERROR,
        message: "half way".into(),
        detail: None,
        hint: None,
    };
    peer.notices.send(notice).await.unwrap();
    let (tag, body) = peer.read().await;
    assert_eq!(tag, b'N');
    assert!(String::from_utf8(body).unwrap().contains("Mhalf way\0"));
    go.send(()).unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), 7);
}

#[tokio::test]
async fn what_the_engine_answers_to_a_cancel_counts() {
    let (mut client, _peer) = connected();
    for committed in [true, false] {
        let cancel = Cancel::new();
        let running = Running::new(cancel.clone(), None);
        let heard = cancel.clone();
        let work = async move {
            heard.cancelled().await;
            match committed {
                true => Ok("INSERT 0 1"),
                false => Err(Error::new(SqlState::QUERY_CANCELED, "stopped")),
            }
        };
        cancel.cancel();
        match (committed, client.wait(&running, work).await) {
            (true, Ok(tag)) => assert_eq!(tag, "INSERT 0 1"),
            (false, Err(Stop::Failed(error))) => assert_eq!(error.message(), "stopped"),
            (_, other) => panic!("{other:?}"),
        }
    }
}

/// Keeps what it is given where the test can see it.
struct Kept(Arc<Mutex<Vec<usize>>>);

#[async_trait::async_trait]
impl CopyWriter for Kept {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        self.0.lock().unwrap().push(batch.num_rows());
        Ok(())
    }

    async fn finish(self: Box<Self>, _session: &mut Session) -> Result<u64> {
        unreachable!("whoever has received the rows finishes them")
    }
}

fn copy(format: CopyFormat) -> Copy {
    Copy {
        schema: schema(),
        format,
        style: DateTimeStyle::default(),
    }
}

fn text() -> CopyFormat {
    CopyFormat::Text {
        delimiter: b'\t',
        null: "\\N".into(),
        header: false,
    }
}

/// Runs a COPY FROM STDIN against what the client sends.
async fn copied_in(messages: Vec<(u8, Vec<u8>)>) -> (Result<(), Stop>, Vec<usize>) {
    let (mut client, mut peer) = connected();
    let kept = Arc::new(Mutex::new(Vec::new()));
    let mut writer = Kept(Arc::clone(&kept));
    let writing = tokio::spawn(async move {
        let (tag, body) = peer.read().await;
        assert_eq!((tag, body), (b'G', b"\0\0\x02\0\0\0\0".to_vec()));
        for (tag, body) in messages {
            peer.write(tag, &body).await;
        }
        peer
    });
    let relation = Some("bids".to_string());
    let result = copy(text())
        .receive(&mut client, &running(), &mut writer, relation)
        .await;
    drop(client);
    writing.await.unwrap();
    let batches = kept.lock().unwrap().clone();
    (result, batches)
}

#[tokio::test]
async fn copy_in_writes_bounded_batches_and_minds_no_sync() {
    let rows: String = (0..CHUNK_ROWS_MAX + 10)
        .map(|id| format!("{id}\tx\n"))
        .collect();
    let (first, second) = rows.as_bytes().split_at(rows.len() / 2);
    let (result, batches) = copied_in(vec![
        (b'S', Vec::new()),
        (b'd', first.to_vec()),
        (b'H', Vec::new()),
        (b'd', second.to_vec()),
        (b'c', Vec::new()),
    ])
    .await;
    result.unwrap();
    assert_eq!(batches, [CHUNK_ROWS_MAX, 10]);
}

#[tokio::test]
async fn copy_in_that_is_given_up_or_interrupted_fails() {
    let (result, batches) = copied_in(vec![
        (b'd', b"1\tx\n".to_vec()),
        (b'f', b"no more\0".to_vec()),
    ])
    .await;
    let error = failed(result);
    assert_eq!(error.state(), SqlState::QUERY_CANCELED);
    assert_eq!(error.message(), "COPY from stdin failed: no more");
    assert!(batches.is_empty());

    let (result, _) = copied_in(vec![(b'Q', b"SELECT 1\0".to_vec())]).await;
    assert_eq!(failed(result).state(), SqlState::PROTOCOL_VIOLATION);

    let (result, _) = copied_in(vec![(b'd', b"x\ty\n".to_vec())]).await;
    let error = failed(result);
    assert_eq!(
        error.get_detail(),
        Some("COPY bids, line 1, column id: \"x\"")
    );

    let (result, _) = copied_in(vec![(b'X', Vec::new())]).await;
    assert!(matches!(result, Err(Stop::Gone)));
}

#[tokio::test]
async fn copy_out_sends_a_message_for_each_row() {
    let (mut client, mut peer) = connected();
    let batches = fixed(vec![batch(&[1, 0])]);
    let rows = copy(text())
        .send(&mut client, &running(), batches)
        .await
        .unwrap();
    assert_eq!(rows, 2);
    client.farewell(None).await;
    assert_eq!(peer.read().await, (b'H', b"\0\0\x02\0\0\0\0".to_vec()));
    assert_eq!(peer.texts(b'd', 2).await, ["1\tn1\n", "0\t\\N\n"]);
    assert_eq!(peer.read().await, (b'c', Vec::new()));
}

#[tokio::test]
async fn copy_out_in_csv_with_a_header_and_in_binary() {
    let (mut client, mut peer) = connected();
    let csv = CopyFormat::Csv {
        delimiter: b';',
        null: String::new(),
        header: true,
        quote: b'"',
        escape: b'"',
    };
    let batches = fixed(vec![batch(&[1, 0])]);
    copy(csv)
        .send(&mut client, &running(), batches)
        .await
        .unwrap();
    assert_eq!(
        peer_after(&mut client, &mut peer, 3).await,
        ["id;name\n", "1;n1\n", "0;\n"]
    );

    let batches = fixed(vec![batch(&[1])]);
    copy(CopyFormat::Binary)
        .send(&mut client, &running(), batches)
        .await
        .unwrap();
    client.farewell(None).await;
    let (mut tag, mut body) = peer.read().await;
    while tag != b'd' {
        (tag, body) = peer.read().await;
    }
    let header = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    let row = b"\0\x02\0\0\0\x08\0\0\0\0\0\0\0\x01\0\0\0\x02n1".to_vec();
    assert_eq!(body, [header, row].concat());
    assert_eq!(peer.read().await, (b'd', b"\xff\xff".to_vec()));
}

/// Lets the client's gathered output go and reads `count` CopyData messages of it.
async fn peer_after(client: &mut Client, peer: &mut Peer, count: usize) -> Vec<String> {
    while !client.outbound.is_empty() {
        client.outbound.write_some().await.unwrap();
    }
    peer.texts(b'd', count).await
}

#[tokio::test]
async fn what_is_gathered_goes_out_before_the_next_message_is_waited_for() {
    let (mut client, mut peer) = connected();
    client.complete("SELECT 0".to_string());
    let waiting = tokio::spawn(async move { client.next(None).await });
    assert_eq!(peer.read().await, (b'C', b"SELECT 0\0".to_vec()));
    peer.write(b'S', b"").await;
    assert_eq!(waiting.await.unwrap().unwrap(), Message::Sync);
}

#[tokio::test]
async fn a_client_that_is_silent_too_long_is_told() {
    let (mut client, _peer) = connected();
    match client.next(Some(Duration::from_millis(1))).await {
        Err(Stop::Fatal(error)) => assert!(error.message().contains("idle-session timeout")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn format_codes_are_for_all_or_for_each() {
    assert_eq!(formats(&[], 2).unwrap(), [Format::Text, Format::Text]);
    assert_eq!(formats(&[1], 2).unwrap(), [Format::Binary, Format::Binary]);
    assert_eq!(formats(&[0, 1], 2).unwrap(), [Format::Text, Format::Binary]);
    for (codes, count) in [(&[0, 1][..], 3), (&[2], 1), (&[0, -1], 2)] {
        assert_eq!(
            formats(codes, count).unwrap_err().state(),
            SqlState::PROTOCOL_VIOLATION
        );
    }
}
