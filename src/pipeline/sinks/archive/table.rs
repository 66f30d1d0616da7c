//! A Parquet file, by the `parquet` crate's writer of single columns.
//!
//! What: events are collected as they are; some thousand of them become a row group: each is read once, then column after
//! column is written. Why the events and not columns: they take the least memory until then, and their number is bounded
//! by bytes. Source: <https://parquet.apache.org/docs/file-format/>. How it fails: with the error of what is written to; the
//! file is of no use then.

use super::columns::{self, Kind};
use super::target::Target;
use crate::pipeline::event::{Value, members};
use crate::pipeline::trace_view::moment;
use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnPath, Type};
use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// Most rows of a row group.
const ROWS_MAX: usize = 50_000;
/// Most bytes of a row group's events; they and twice as much for the columns are in memory while it is written.
const GROUP_BYTES_MAX: usize = 8 << 20;

/// Members whose values hardly repeat: a dictionary of them would be built in vain.
const UNIQUE: [&str; 5] = ["trace_id", "span_id", "parent_id", "request_id", columns::EVENT];

/// A Parquet file that is being made.
pub(super) struct Table {
    writer: SerializedFileWriter<Target>,
    /// Member to column: those of `id` have theirs by place.
    places: HashMap<&'static [u8], usize>,
    events: Vec<u8>,
    rows: Vec<Range<usize>>,
}

impl Table {
    /// An empty file.
    pub(super) fn new(target: Target, level: i32) -> io::Result<Table> {
        let writer =
            SerializedFileWriter::new(target, schema().map_err(told)?, properties(level).map_err(told)?);
        let places = columns::all().map(|(member, _)| member.as_bytes()).zip(0..).skip(columns::ID.len());
        Ok(Table {
            writer: writer.map_err(told)?,
            places: places.collect(),
            events: Vec::new(),
            rows: Vec::new(),
        })
    }

    /// Appends a row.
    pub(super) fn push(&mut self, event: &[u8]) -> io::Result<()> {
        let start = self.events.len();
        self.events.extend_from_slice(event);
        self.rows.push(start..self.events.len());
        if self.rows.len() >= ROWS_MAX || self.events.len() >= GROUP_BYTES_MAX {
            self.write_group()?;
        }
        Ok(())
    }

    /// Bytes in memory.
    pub(super) fn held(&self) -> usize {
        self.events.capacity() + self.rows.capacity() * size_of::<Range<usize>>() + self.writer.inner().held()
    }

    /// Completes the file.
    pub(super) fn finish(mut self) -> io::Result<Target> {
        self.write_group()?;
        self.writer.into_inner().map_err(told)
    }

    fn write_group(&mut self) -> io::Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let events: Vec<&[u8]> =
            self.rows.iter().map(|row| self.events.get(row.clone()).unwrap_or_default()).collect();
        let cells = cells(&events, &self.places);
        let mut kinds = columns::all().map(|(_, kind)| kind);
        let mut group = self.writer.next_row_group().map_err(told)?;
        let mut place = 0;
        while let Some(mut column) = group.next_column().map_err(told)? {
            match kinds.next() {
                Some(kind) => {
                    let of_column = cells.iter().skip(place).step_by(WIDTH).copied();
                    write(column.untyped(), kind, of_column).map_err(told)?;
                }
                None => {
                    let whole = events.iter().map(|event| Some(text(event)));
                    write_texts(column.untyped(), whole).map_err(told)?;
                }
            }
            column.close().map_err(told)?;
            place += 1;
        }
        group.close().map_err(told)?;
        self.events.clear();
        self.events.shrink_to(2 * GROUP_BYTES_MAX);
        self.rows.clear();
        Ok(())
    }
}

/// How many columns there are, without the last.
const WIDTH: usize = columns::ID.len() + columns::MEMBERS.len();

/// What the columns hold, row after row.
fn cells<'a>(events: &[&'a [u8]], places: &HashMap<&'static [u8], usize>) -> Vec<Option<Value<'a>>> {
    let mut cells = vec![None; events.len() * WIDTH];
    for (event, row) in events.iter().zip(cells.chunks_exact_mut(WIDTH)) {
        let mut put = |place: usize, value| {
            // A member that is there twice: the first counts.
            if let Some(cell @ None) = row.get_mut(place) {
                *cell = Some(value);
            }
        };
        for (name, value) in members(event) {
            match value {
                Value::Object(id) if name.raw() == b"id" => {
                    for (name, value) in members(id) {
                        let place = columns::ID.iter().position(|(id, _)| id.as_bytes() == name.raw());
                        if let Some(place) = place {
                            put(place, value);
                        }
                    }
                }
                value => {
                    if let Some(place) = places.get(name.raw()) {
                        put(*place, value);
                    }
                }
            }
        }
    }
    cells
}

/// Writes a column. What is of another kind is null: the last column has it.
fn write<'a>(
    column: &mut ColumnWriter<'_>,
    kind: Kind,
    cells: impl Iterator<Item = Option<Value<'a>>>,
) -> Result<(), ParquetError> {
    let int = |value: Value<'_>| match value {
        Value::Int(number) => Some(number),
        _ => None,
    };
    match (kind, column) {
        (Kind::Text, column) => write_texts(column, cells.map(|cell| cell?.text().map(text_of))),
        (Kind::Int32, ColumnWriter::Int32ColumnWriter(writer)) => {
            let (values, levels) = split(cells.map(|cell| i32::try_from(int(cell?)?).ok()));
            writer.write_batch(&values, Some(&levels), None).map(drop)
        }
        (Kind::Int64, ColumnWriter::Int64ColumnWriter(writer)) => {
            let (values, levels) = split(cells.map(|cell| int(cell?)));
            writer.write_batch(&values, Some(&levels), None).map(drop)
        }
        (Kind::Time, ColumnWriter::Int64ColumnWriter(writer)) => {
            let (values, levels) = split(cells.map(|cell| moment::parse(&cell?.text()?.get())));
            writer.write_batch(&values, Some(&levels), None).map(drop)
        }
        (Kind::Double, ColumnWriter::DoubleColumnWriter(writer)) => {
            let (values, levels) = split(cells.map(|cell| cell?.number()));
            writer.write_batch(&values, Some(&levels), None).map(drop)
        }
        (Kind::Bool, ColumnWriter::BoolColumnWriter(writer)) => {
            let flag = |value: Value<'_>| match value {
                Value::Bool(flag) => Some(flag),
                _ => None,
            };
            let (values, levels) = split(cells.map(|cell| flag(cell?)));
            writer.write_batch(&values, Some(&levels), None).map(drop)
        }
        (kind, _) => Err(ParquetError::General(format!("a column is not {kind:?}"))),
    }
}

fn write_texts(
    column: &mut ColumnWriter<'_>,
    texts: impl Iterator<Item = Option<ByteArray>>,
) -> Result<(), ParquetError> {
    let ColumnWriter::ByteArrayColumnWriter(writer) = column else {
        return Err(ParquetError::General("a column is not text".to_owned()));
    };
    let (values, levels) = split(texts);
    writer.write_batch(&values, Some(&levels), None).map(drop)
}

/// What is there, and for each row whether it is: definition levels.
fn split<T>(cells: impl Iterator<Item = Option<T>>) -> (Vec<T>, Vec<i16>) {
    let mut values = Vec::new();
    let levels = cells
        .map(|cell| match cell {
            Some(value) => {
                values.push(value);
                1
            }
            None => 0,
        })
        .collect();
    (values, levels)
}

fn text_of(text: crate::pipeline::event::Text<'_>) -> ByteArray {
    match text.get() {
        std::borrow::Cow::Borrowed(text) => ByteArray::from(text.as_bytes().to_vec()),
        std::borrow::Cow::Owned(text) => ByteArray::from(text.into_bytes()),
    }
}

/// Readers refuse a whole file for a text that is not UTF-8.
fn text(bytes: &[u8]) -> ByteArray {
    match str::from_utf8(bytes) {
        Ok(_) => ByteArray::from(bytes.to_vec()),
        Err(_) => ByteArray::from(String::from_utf8_lossy(bytes).into_owned().into_bytes()),
    }
}

fn schema() -> Result<Arc<Type>, ParquetError> {
    let texts = || (Physical::BYTE_ARRAY, Some(LogicalType::String));
    let column = |name: &str, (physical, logical): (Physical, Option<LogicalType>)| {
        Type::primitive_type_builder(name, physical)
            .with_repetition(Repetition::OPTIONAL)
            .with_logical_type(logical)
            .build()
            .map(Arc::new)
    };
    let mut fields = Vec::with_capacity(WIDTH + 1);
    for (member, kind) in columns::all() {
        let types = match kind {
            Kind::Text => texts(),
            Kind::Int32 => (Physical::INT32, None),
            Kind::Int64 => (Physical::INT64, None),
            Kind::Double => (Physical::DOUBLE, None),
            Kind::Bool => (Physical::BOOLEAN, None),
            Kind::Time => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MICROS))),
        };
        fields.push(column(&columns::name_of(member), types)?);
    }
    fields.push(column(columns::EVENT, texts())?);
    Type::group_type_builder("event").with_fields(fields).build().map(Arc::new)
}

fn properties(level: i32) -> Result<Arc<WriterProperties>, ParquetError> {
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(level)?))
        .set_created_by(concat!("sidelight version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_statistics_enabled(EnabledStatistics::Chunk);
    for name in UNIQUE {
        builder = builder.set_column_dictionary_enabled(ColumnPath::from(name), false);
    }
    // The least and the greatest event tell nothing.
    builder =
        builder.set_column_statistics_enabled(ColumnPath::from(columns::EVENT), EnabledStatistics::None);
    Ok(Arc::new(builder.build()))
}

fn told(error: ParquetError) -> io::Error {
    io::Error::other(error.to_string())
}
