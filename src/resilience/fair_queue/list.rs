//! Doubly linked lists over one slab: what is in the middle leaves in constant time, and nothing is moved.

/// No node.
const NONE: u32 = u32::MAX;

/// Values with links; nodes are used again, so the memory is that of the most there ever were at once.
#[derive(Debug)]
pub(super) struct Slab<V> {
    nodes: Vec<Node<V>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Node<V> {
    value: Option<V>,
    previous: u32,
    next: u32,
}

/// A list of nodes of a slab. A node is in one list at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    first: u32,
    last: u32,
    len: u32,
}

impl<V> Slab<V> {
    pub(super) const fn new() -> Slab<V> {
        Slab { nodes: Vec::new(), free: Vec::new() }
    }

    /// A place for `value`, in no list yet.
    pub(super) fn insert(&mut self, value: V) -> u32 {
        let node = Node { value: Some(value), previous: NONE, next: NONE };
        if let Some(key) = self.free.pop()
            && let Some(slot) = self.nodes.get_mut(key as usize)
        {
            *slot = node;
            return key;
        }
        self.nodes.push(node);
        self.nodes.len() as u32 - 1
    }

    /// Takes a value out; it is in no list any more.
    pub(super) fn remove(&mut self, key: u32) -> Option<V> {
        let value = self.nodes.get_mut(key as usize)?.value.take()?;
        self.free.push(key);
        Some(value)
    }

    pub(super) fn get(&self, key: u32) -> Option<&V> {
        self.nodes.get(key as usize)?.value.as_ref()
    }

    pub(super) fn get_mut(&mut self, key: u32) -> Option<&mut V> {
        self.nodes.get_mut(key as usize)?.value.as_mut()
    }

    fn link(&mut self, key: u32, previous: u32, next: u32) {
        if let Some(node) = self.nodes.get_mut(key as usize) {
            (node.previous, node.next) = (previous, next);
        }
    }

    fn set_next(&mut self, key: u32, next: u32) {
        if let Some(node) = self.nodes.get_mut(key as usize) {
            node.next = next;
        }
    }

    fn set_previous(&mut self, key: u32, previous: u32) {
        if let Some(node) = self.nodes.get_mut(key as usize) {
            node.previous = previous;
        }
    }
}

impl List {
    pub(super) const EMPTY: List = List { first: NONE, last: NONE, len: 0 };

    /// How many nodes there are.
    pub(super) const fn len(&self) -> u32 {
        self.len
    }

    pub(super) fn first(&self) -> Option<u32> {
        (self.first != NONE).then_some(self.first)
    }

    pub(super) fn last(&self) -> Option<u32> {
        (self.last != NONE).then_some(self.last)
    }

    /// Puts a node of `slab` that is in no list at the end.
    pub(super) fn push<V>(&mut self, slab: &mut Slab<V>, key: u32) {
        slab.link(key, self.last, NONE);
        if self.last == NONE {
            self.first = key;
        } else {
            slab.set_next(self.last, key);
        }
        self.last = key;
        self.len += 1;
    }

    /// Takes a node of this list out of it; its value stays in the slab.
    pub(super) fn unlink<V>(&mut self, slab: &mut Slab<V>, key: u32) {
        let Some(node) = slab.nodes.get(key as usize) else { return };
        let (previous, next) = (node.previous, node.next);
        if previous == NONE {
            self.first = next;
        } else {
            slab.set_next(previous, next);
        }
        if next == NONE {
            self.last = previous;
        } else {
            slab.set_previous(next, previous);
        }
        slab.link(key, NONE, NONE);
        self.len -= 1;
    }
}
