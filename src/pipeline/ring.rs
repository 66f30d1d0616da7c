//! A bounded queue from one thread to one other: no lock, no allocation, no waiting.
//!
//! What: Lamport's single-producer, single-consumer ring with cached counterpart positions (as in rigtorp's SPSCQueue
//! and folly's ProducerConsumerQueue), so that in steady state each side touches only its own cache line and the slot.
//! Why our own: a worker hands over one box for each exchange, and `std::sync::mpsc` costs an order of magnitude more.
//! How it fails: [`Producer::push`] gives the value back when the ring is full; nothing blocks. When either half is
//! dropped the other keeps working on what is there; the values left are dropped with the second half.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A counter on a cache line of its own (two lines, because processors prefetch pairs).
#[repr(align(128))]
#[derive(Default)]
struct Position(AtomicUsize);

struct Ring<T> {
    /// A power of two of slots, at least `capacity`.
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
    /// How many values fit.
    capacity: usize,
    /// Values taken so far; written by the consumer.
    head: Position,
    /// Values put so far; written by the producer.
    tail: Position,
}

// SAFETY: a slot is reached by one side at a time (see `push` and `pop`), so sharing the ring between two threads moves
// values of T from one to the other and never shares one.
unsafe impl<T: Send> Sync for Ring<T> {}
// SAFETY: the ring owns its values and nothing else that is bound to a thread.
unsafe impl<T: Send> Send for Ring<T> {}

/// The side that puts values in.
pub struct Producer<T> {
    ring: Arc<Ring<T>>,
    tail: usize,
    /// What `head` was when it was last read.
    head_seen: usize,
}

/// The side that takes values out.
pub struct Consumer<T> {
    ring: Arc<Ring<T>>,
    head: usize,
    /// What `tail` was when it was last read.
    tail_seen: usize,
}

/// A ring for at most `capacity` values, at least one.
pub fn ring<T>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    let capacity = capacity.max(1);
    let slots = (0..capacity.next_power_of_two()).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect();
    let ring = Arc::new(Ring { slots, capacity, head: Position::default(), tail: Position::default() });
    (Producer { ring: Arc::clone(&ring), tail: 0, head_seen: 0 }, Consumer { ring, head: 0, tail_seen: 0 })
}

impl<T> Ring<T> {
    fn slot(&self, position: usize) -> *mut MaybeUninit<T> {
        // The mask keeps it in bounds; there is at least one slot.
        self.slots[position & (self.slots.len() - 1)].get()
    }
}

impl<T> Producer<T> {
    /// Puts `value` in, or gives it back when the ring is full.
    #[inline]
    pub fn push(&mut self, value: T) -> Result<(), T> {
        if self.tail.wrapping_sub(self.head_seen) >= self.ring.capacity {
            self.head_seen = self.ring.head.0.load(Ordering::Acquire);
            if self.tail.wrapping_sub(self.head_seen) >= self.ring.capacity {
                return Err(value);
            }
        }
        // SAFETY: fewer than `capacity` values lie between `head` and `tail`, so the slot at `tail` is empty: the
        // consumer has moved out of it, which the Acquire load of `head` made visible, and will not touch it before it
        // sees the `tail` stored below. This is the only producer (`&mut self`, the type is not Clone).
        unsafe { (*self.ring.slot(self.tail)).write(value) };
        self.tail = self.tail.wrapping_add(1);
        self.ring.tail.0.store(self.tail, Ordering::Release);
        Ok(())
    }

    /// How many values were put in so far, modulo 2^64.
    #[inline]
    pub fn pushed(&self) -> usize {
        self.tail
    }
}

impl<T> Consumer<T> {
    /// Takes the oldest value out.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.head == self.tail_seen {
            self.tail_seen = self.ring.tail.0.load(Ordering::Acquire);
            if self.head == self.tail_seen {
                return None;
            }
        }
        // SAFETY: `head` is before `tail`, so the producer has filled the slot, which the Acquire load of `tail` made
        // visible, and will not touch it before it sees the `head` stored below. This is the only consumer.
        let value = unsafe { (*self.ring.slot(self.head)).assume_init_read() };
        self.head = self.head.wrapping_add(1);
        self.ring.head.0.store(self.head, Ordering::Release);
        Some(value)
    }

    /// How many values can be taken out now.
    pub fn len(&self) -> usize {
        self.ring.tail.0.load(Ordering::Acquire).wrapping_sub(self.head)
    }

    /// Whether there is nothing to take out now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        let (head, tail) = (*self.head.0.get_mut(), *self.tail.0.get_mut());
        let mut position = head;
        while position != tail {
            // SAFETY: both halves are gone, and the slots from `head` to `tail` are filled.
            unsafe { (*self.slot(position)).assume_init_drop() };
            position = position.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn values_come_out_in_order_and_a_full_ring_gives_them_back() {
        let (mut producer, mut consumer) = ring(3);
        for round in 0..10 {
            for value in 0..3 {
                assert_eq!(producer.push(round * 10 + value), Ok(()));
            }
            assert_eq!(producer.push(99), Err(99), "three fit, although four slots exist");
            assert_eq!(consumer.len(), 3);
            for value in 0..3 {
                assert_eq!(consumer.pop(), Some(round * 10 + value));
            }
            assert_eq!(consumer.pop(), None);
        }
    }

    #[test]
    fn what_is_left_is_dropped_once() {
        let counted = Arc::new(());
        let (mut producer, mut consumer) = ring(8);
        for _ in 0..5 {
            producer.push(Arc::clone(&counted)).unwrap();
        }
        drop(consumer.pop());
        assert_eq!(Arc::strong_count(&counted), 5);
        drop(consumer);
        producer.push(Arc::clone(&counted)).unwrap();
        drop(producer);
        assert_eq!(Arc::strong_count(&counted), 1);
    }

    #[test]
    fn two_threads_lose_and_reorder_nothing() {
        const VALUES: usize = 200_000;
        let (mut producer, mut consumer) = ring::<Box<usize>>(64);
        let writer = thread::spawn(move || {
            let mut refused = 0_usize;
            for value in 0..VALUES {
                let mut boxed = Box::new(value);
                while let Err(back) = producer.push(boxed) {
                    boxed = back;
                    refused += 1;
                    thread::yield_now();
                }
            }
            refused
        });
        let mut expected = 0;
        while expected < VALUES {
            match consumer.pop() {
                Some(value) => {
                    assert_eq!(*value, expected);
                    expected += 1;
                }
                None => thread::yield_now(),
            }
        }
        assert!(consumer.is_empty());
        writer.join().unwrap();
    }
}
