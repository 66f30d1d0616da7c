use super::*;
use ::parquet::basic::{Compression, LogicalType, Repetition, TimeUnit};
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::{Field, Row};
use bytes::Bytes;

fn read(file: &[u8]) -> (SerializedFileReader<Bytes>, Vec<Row>) {
    let reader = SerializedFileReader::new(Bytes::copy_from_slice(file)).unwrap();
    let rows = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
    (reader, rows)
}

/// What a row has, without nulls and without the event.
fn values(row: &Row) -> Vec<(String, Field)> {
    let all = row.get_column_iter().filter(|(name, value)| *name != "event" && **value != Field::Null);
    all.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn archive(root: &Path, events: &[String]) -> Vec<Vec<u8>> {
    let mut archive = open(&Config { format: Format::Parquet, ..config(root) });
    let mut feed = Feed::new();
    for event in events {
        feed.push(event);
    }
    feed.drive(&mut archive, 1000).unwrap();
    feed.settle(archive.close(soon())).unwrap();
    assert_eq!(feed.settled(), events.len() as u64);
    files(root).into_values().collect()
}

#[test]
fn an_event_is_a_row_of_typed_columns_and_whole_in_the_last() {
    let root = tempfile::tempdir().unwrap();
    let events = [
        exchange(
            9,
            "2025-01-01T00:00:00.123456Z",
            concat!(
                r#""trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","sampled":true,"account_id":"a \"quoted\" ünï","#,
                r#""service.name":"checkout","http.route":"/orders","http.response.status_code":200,"#,
                r#""http.response.body.size":5000000000,"sidelight.direction":"outbound","sidelight.duration_ms":12.345,"#,
                r#""sidelight.queue_ms":1,"sidelight.hedged":false,"flags":["beta"],"nobody.knows":{"this":1}"#
            ),
        ),
        // Other types than the columns have, what does not fit, and a member that is there twice.
        exchange(
            10,
            "never",
            r#""sampled":"yes","http.response.status_code":"200","server.port":99999999999,"account_id":"a","account_id":"b","sidelight.queue_ms":null"#,
        ),
    ];
    let found = archive(root.path(), &events);
    // The one without a moment is in an hour of its own.
    let (reader, rows) = read(&found[1]);
    let text = |text: &str| Field::Str(text.to_owned());
    let want = [
        ("instance", text("host-1")),
        ("epoch", Field::Long(77)),
        ("sequence", Field::Long(9)),
        ("event_schema", text("sidelight/exchange/1")),
        ("timestamp", Field::TimestampMicros(1_735_689_600_123_456)),
        ("trace_id", text("4bf92f3577b34da6a3ce929d0e0e4736")),
        ("sampled", Field::Bool(true)),
        ("account_id", text("a \"quoted\" ünï")),
        ("service_name", text("checkout")),
        ("http_route", text("/orders")),
        ("http_response_status_code", Field::Int(200)),
        ("http_response_body_size", Field::Long(5_000_000_000)),
        ("sidelight_direction", text("outbound")),
        ("sidelight_hedged", Field::Bool(false)),
        ("sidelight_duration_ms", Field::Double(12.345)),
        ("sidelight_queue_ms", Field::Double(1.0)),
    ];
    assert_eq!(values(&rows[0]), want.map(|(name, value)| (name.to_owned(), value)));
    let (_, others) = read(&found[0]);
    let want = [
        ("instance", text("host-1")),
        ("epoch", Field::Long(77)),
        ("sequence", Field::Long(10)),
        ("event_schema", text("sidelight/exchange/1")),
        ("account_id", text("a")),
    ];
    assert_eq!(values(&others[0]), want.map(|(name, value)| (name.to_owned(), value)));
    for (row, event) in [(&rows[0], &events[0]), (&others[0], &events[1])] {
        let whole = row.get_column_iter().last().unwrap();
        assert_eq!(whole, (&"event".to_owned(), &text(event)));
    }

    let metadata = reader.metadata();
    let group = metadata.row_group(0);
    for column in group.columns() {
        assert!(matches!(column.compression(), Compression::ZSTD(_)), "{}", column.column_path());
        let basic = column.column_descr().self_type().get_basic_info();
        assert_eq!(basic.repetition(), Repetition::OPTIONAL);
        let name = basic.name();
        assert!(
            name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
            "BigQuery takes no {name}"
        );
        assert!(!["service", "schema", "date", "hour"].contains(&name), "{name} is a partition's key");
    }
    let timestamp =
        group.columns().iter().find(|column| column.column_path().string() == "timestamp").unwrap();
    let logical = timestamp.column_descr().logical_type_ref().cloned();
    assert_eq!(logical, Some(LogicalType::timestamp(true, TimeUnit::MICROS)));
}

#[test]
fn row_groups_are_bounded_and_nothing_is_lost_between_them() {
    let root = tempfile::tempdir().unwrap();
    let filler = "y".repeat(4000);
    let events: Vec<String> = (1..=5000)
        .map(|number| {
            exchange(
                number,
                "2025-01-01T07:00:00.000000Z",
                &format!(r#""request_id":"r{number}","f":"{filler}""#),
            )
        })
        .collect();
    let found = archive(root.path(), &events);
    assert_eq!(found.len(), 1);
    let (reader, rows) = read(&found[0]);
    let groups = reader.metadata().row_groups();
    assert!(groups.len() > 2, "{} row groups", groups.len());
    for group in groups {
        assert!(group.total_byte_size() < 10 << 20, "{} bytes", group.total_byte_size());
    }
    for (row, event) in rows.iter().zip(&events) {
        assert_eq!(row.get_column_iter().last().unwrap().1, &Field::Str(event.clone()));
    }
    assert_eq!(rows.len(), events.len());
}

#[test]
fn what_is_no_event_is_a_row_all_the_same() {
    let root = tempfile::tempdir().unwrap();
    let events = ["", "{", "[]", r#"{"timestamp":{},"id":7,"trace_id":"\ud800"}"#].map(str::to_owned);
    let found = archive(root.path(), &events);
    let (_, rows) = read(&found[0]);
    let whole: Vec<&Field> = rows.iter().map(|row| row.get_column_iter().last().unwrap().1).collect();
    assert_eq!(
        whole,
        events.iter().map(|event| Field::Str(event.clone())).collect::<Vec<_>>().iter().collect::<Vec<_>>()
    );
}
