use super::*;
use proptest::prelude::*;

fn data(side: Side, at_ns: u64, bytes: &[u8]) -> Event {
    Event { at_ns, what: What::Data(side, Bytes::copy_from_slice(bytes)) }
}

fn message(flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![flags];
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    out.extend_from_slice(payload);
    out
}

#[test]
fn grpc_messages_are_found_however_they_were_cut() {
    let wire =
        [message(0, b"hello"), message(1, b""), message(0, &[7; 300]), message(0x80, b"grpc-status: 0\r\n")]
            .concat();
    for size in [1, 2, 3, 5, 7, 64, wire.len()] {
        let events: Vec<Event> =
            wire.chunks(size).zip(1..).map(|(piece, at)| data(Side::Response, at, piece)).collect();
        let found = grpc_messages(&events, PAYLOAD_BYTES_MAX);
        assert!(found.response_rest.is_none() && found.request_rest.is_none());
        let told: Vec<_> = found
            .messages
            .iter()
            .map(|it| (it.offset, it.is_compressed, it.is_trailers, it.payload.len()))
            .collect();
        assert_eq!(
            told,
            [(0, false, false, 5), (10, true, false, 0), (15, false, false, 300), (320, false, true, 16)]
        );
        // The piece that has a message's last byte.
        let ends = [10, 15, 320, 341];
        for (it, end) in found.messages.iter().zip(ends) {
            assert_eq!(it.at_ns, (end as u64).div_ceil(size as u64), "pieces of {size}");
        }
        assert_eq!(&found.messages[0].payload[..], b"hello");
    }
}

#[test]
fn both_sides_of_a_call_are_told_in_the_order_of_time() {
    let events = [
        data(Side::Request, 1, &message(0, b"a")[..3]),
        data(Side::Response, 2, &message(0, b"b")),
        data(Side::Request, 3, &message(0, b"a")[3..]),
    ];
    let told: Vec<_> =
        grpc_messages(&events, 10).messages.into_iter().map(|it| (it.side, it.at_ns, it.payload)).collect();
    assert_eq!(told, [(Side::Response, 2, "b".into()), (Side::Request, 3, "a".into())]);
}

#[test]
fn what_is_left_of_a_call_is_told() {
    let cut = |bytes: &[u8]| grpc_messages(&[data(Side::Request, 0, bytes)], 10).request_rest;
    let wire = [message(0, b"whole"), message(0, b"half")].concat();
    assert_eq!(cut(&wire[..12]), Rest { offset: 10, bytes: 2, missing: None, problem: None });
    assert_eq!(cut(&wire[..17]), Rest { offset: 10, bytes: 7, missing: Some(2), problem: None });
    assert!(cut(b"\x02....").problem.is_some());
    assert!(cut(&[&wire[..10], b"<html>"].concat()).problem.is_some_and(|why| why.contains("flags")));
}

#[test]
fn a_huge_length_keeps_nothing_but_what_is_there() {
    let found = grpc_messages(&[data(Side::Request, 0, b"\0\xff\xff\xff\xffabc")], 2);
    assert!(found.messages.is_empty());
    assert_eq!(found.request_rest.missing, Some(u64::from(u32::MAX) - 3));
    let found = grpc_messages(&[data(Side::Request, 0, &message(0, b"longer"))], 2);
    assert_eq!((found.messages[0].bytes, &found.messages[0].payload[..]), (6, b"lo".as_slice()));
}

#[test]
fn frames_of_the_rfc_are_read() {
    // RFC 6455 §5.7.
    let masked = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    let fragments = b"\x01\x03Hel\x80\x02lo";
    let ping = b"\x89\x05Hello";
    let long = [b"\x82\x7e\x01\x00".as_slice(), &[9; 256]].concat();
    let longer = [b"\x82\x7f\0\0\0\0\0\x01\0\0".as_slice(), &[9; 65536]].concat();
    let events = [
        data(Side::Request, 1, masked),
        data(Side::Response, 2, fragments),
        data(Side::Response, 3, ping),
        data(Side::Response, 4, &long[..2]),
        data(Side::Response, 5, &long[2..]),
        data(Side::Response, 6, &longer),
        data(Side::Response, 7, b"\xc1\x01x\x88\x02\x03\xe8"),
    ];
    let found = frames(&events, PAYLOAD_BYTES_MAX);
    let told: Vec<_> = found
        .messages
        .iter()
        .map(|it| (it.at_ns, it.is_final, it.is_compressed, it.opcode, it.is_masked, it.bytes))
        .collect();
    assert_eq!(
        told,
        [
            (1, true, false, Opcode::Text, true, 5),
            (2, false, false, Opcode::Text, false, 3),
            (2, true, false, Opcode::Continuation, false, 2),
            (3, true, false, Opcode::Ping, false, 5),
            (5, true, false, Opcode::Binary, false, 256),
            (6, true, false, Opcode::Binary, false, 65536),
            (7, true, true, Opcode::Text, false, 1),
            (7, true, false, Opcode::Close, false, 2),
        ]
    );
    assert_eq!(&found.messages[0].payload[..], b"Hello");
    assert!(found.request_rest.is_none() && found.response_rest.is_none());
}

#[test]
fn a_frame_that_says_too_much_ends_the_search() {
    let found = frames(&[data(Side::Request, 0, b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff..")], 10);
    assert!(found.messages.is_empty() && found.request_rest.problem.is_some());
}

proptest! {
    #[test]
    fn a_frame_is_read_as_it_was_written(
        payload in proptest::collection::vec(any::<u8>(), 0..70_000), mask: Option<[u8; 4]>, size in 1usize..5000,
    ) {
        let mut wire = Vec::new();
        put_frame(&mut wire, Opcode::Binary, mask, &payload);
        let events: Vec<Event> = wire.chunks(size).map(|piece| data(Side::Request, 0, piece)).collect();
        let found = frames(&events, PAYLOAD_BYTES_MAX);
        prop_assert_eq!(found.messages.len(), 1);
        prop_assert_eq!(&found.messages[0].payload[..], &payload[..]);
        prop_assert_eq!(found.messages[0].is_masked, mask.is_some());
    }

    #[test]
    fn no_bytes_panic(pieces: Vec<(bool, Vec<u8>)>) {
        let events: Vec<Event> = pieces
            .iter()
            .map(|(is_request, piece)| data(if *is_request { Side::Request } else { Side::Response }, 0, piece))
            .collect();
        let bytes: usize = pieces.iter().map(|(_, piece)| piece.len()).sum();
        prop_assert!(grpc_messages(&events, 100).messages.len() <= bytes / 5 + 1);
        prop_assert!(frames(&events, 100).messages.len() <= bytes / 2 + 1);
    }
}
