//! How the spans of a trace hang together.
//!
//! What: the spans in the order of a tree, each with its depth. A span hangs below the one whose `span_id` is its
//! `parent_id`: the SERVER span of one sidecar below the CLIENT span of another, that below the SERVER span of its own.
//! Without recursion, so that no depth exhausts the stack. How it fails: a parent that is not in the files, a span that
//! names itself, and parents that form a circle make a root that says so; no span is shown twice or left out.

use super::span::{Clock, Kind, Span};
use std::collections::{HashMap, HashSet};

/// Why a span hangs below no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// It has no parent: here the trace began.
    Begin,
    /// Its parent is in none of the files.
    NotInFiles([u8; 8]),
    /// It names itself.
    Itself,
    /// Its parents form a circle, which is cut here, at the span that began first.
    Circle([u8; 8]),
}

/// A span at its place in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Which of [`Trace::spans`].
    pub span: usize,
    /// How many spans it hangs below.
    pub depth: usize,
    /// Whether it is the last child of its parent.
    pub is_last: bool,
    /// Why it hangs below no other; absent when it does.
    pub root: Option<Root>,
    /// How its clock contradicts its parent's.
    pub clock: Option<Clock>,
}

/// A trace.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// Its id.
    pub trace_id: [u8; 16],
    /// Its spans by the time they began, each by the clock of its machine.
    pub spans: Vec<Span>,
    /// The same as a tree: parents before their children, children by the time they began.
    pub nodes: Vec<Node>,
    /// Spans of other traces that name one of this trace as a candidate for their parent.
    pub linking: Vec<Span>,
    /// How many events were there more than once.
    pub duplicates: usize,
    /// How many spans were found beyond those that are kept.
    pub more: u64,
    /// The names of the files, by their place.
    pub files: Vec<String>,
}

impl Trace {
    /// Builds the tree of `spans`, all of one trace, in any order.
    pub(super) fn new(
        trace_id: [u8; 16],
        mut spans: Vec<Span>,
        linking: Vec<Span>,
        more: u64,
        files: Vec<String>,
    ) -> Trace {
        let found = spans.len();
        let mut seen = HashSet::new();
        spans.retain(|span| span.event.as_ref().is_none_or(|event| seen.insert(event.clone())));
        let duplicates = found - spans.len();
        spans.sort_by_key(|span| (span.start, span.file, span.line));
        let nodes = Forest::of(&spans).nodes();
        Trace { trace_id, spans, nodes, linking, duplicates, more, files }
    }

    /// The span of a node.
    pub(super) fn span(&self, node: &Node) -> Option<&Span> {
        self.spans.get(node.span)
    }

    /// Where offsets count from: the first span that has no parent, else the first that hangs below no other.
    pub fn start(&self) -> i64 {
        let roots = || self.nodes.iter().filter(|node| node.root.is_some());
        let first = roots().find(|node| node.root == Some(Root::Begin)).or_else(|| roots().next());
        first.and_then(|node| self.span(node)).map_or(0, |span| span.start)
    }

    /// How long it took, in microseconds: up to the end of the last root, for their clocks agree most.
    pub fn duration(&self) -> i64 {
        let roots = self.nodes.iter().filter(|node| node.root.is_some());
        let end = roots.filter_map(|node| self.span(node)).map(Span::end).max().unwrap_or(0);
        end.saturating_sub(self.start()).max(0)
    }

    /// The services in it, each once, in the order of the tree.
    pub fn services(&self) -> Vec<&str> {
        let mut seen = HashSet::new();
        let names = self.nodes.iter().filter_map(|node| self.span(node)).map(|span| span.service.as_str());
        names.filter(|name| !name.is_empty() && seen.insert(*name)).collect()
    }
}

/// Parents and children by their place among the spans.
struct Forest<'a> {
    spans: &'a [Span],
    parents: Vec<Option<usize>>,
    roots: Vec<Option<Root>>,
}

impl<'a> Forest<'a> {
    fn of(spans: &'a [Span]) -> Self {
        let mut by_id: HashMap<&[u8; 8], usize> = HashMap::with_capacity(spans.len());
        for (index, span) in spans.iter().enumerate() {
            by_id.entry(&span.span_id).or_insert(index);
        }
        let mut parents = Vec::with_capacity(spans.len());
        let mut roots = Vec::with_capacity(spans.len());
        for (index, span) in spans.iter().enumerate() {
            let found = span.parent_id.as_ref().map(|id| (id, by_id.get(id).copied()));
            let (parent, root) = match found {
                None => (None, Some(Root::Begin)),
                Some((id, None)) => (None, Some(Root::NotInFiles(*id))),
                Some((_, Some(parent))) if parent == index => (None, Some(Root::Itself)),
                Some((_, parent)) => (parent, None),
            };
            parents.push(parent);
            roots.push(root);
        }
        let mut forest = Forest { spans, parents, roots };
        forest.cut_circles();
        forest
    }

    fn parent(&self, index: usize) -> Option<usize> {
        self.parents.get(index).copied().flatten()
    }

    /// Walks up from every span; a walk that meets itself has found a circle. Every span is walked over once.
    fn cut_circles(&mut self) {
        let mut walks = vec![0; self.spans.len()];
        for from in 0..self.spans.len() {
            let walk = from + 1;
            let mut at = Some(from);
            while let Some(index) = at {
                match walks.get_mut(index) {
                    Some(seen) if *seen == 0 => *seen = walk,
                    Some(seen) if *seen == walk => {
                        self.cut_circle(index);
                        break;
                    }
                    _ => break,
                }
                at = self.parent(index);
            }
        }
    }

    fn cut_circle(&mut self, on_it: usize) {
        // Spans stand in the order they began, so the smallest place is the first.
        let mut first = on_it;
        let mut at = self.parent(on_it);
        while let Some(index) = at.filter(|&index| index != on_it) {
            first = first.min(index);
            at = self.parent(index);
        }
        let parent_id = self.spans.get(first).and_then(|span| span.parent_id).unwrap_or_default();
        if let (Some(parent), Some(root)) = (self.parents.get_mut(first), self.roots.get_mut(first)) {
            *parent = None;
            *root = Some(Root::Circle(parent_id));
        }
    }

    /// Depth first.
    fn nodes(&self) -> Vec<Node> {
        let mut children: Vec<Vec<usize>> = vec![Vec::new(); self.spans.len()];
        for index in 0..self.spans.len() {
            if let Some(siblings) = self.parent(index).and_then(|parent| children.get_mut(parent)) {
                siblings.push(index);
            }
        }
        let mut nodes = Vec::with_capacity(self.spans.len());
        let roots = (0..self.spans.len()).filter(|&index| self.parent(index).is_none());
        let mut waiting: Vec<(usize, usize, bool)> = roots.rev().map(|index| (index, 0, true)).collect();
        while let Some((index, depth, is_last)) = waiting.pop() {
            let root = self.roots.get(index).copied().flatten();
            nodes.push(Node { span: index, depth, is_last, root, clock: self.clock(index) });
            let below = children.get(index).map(Vec::as_slice).unwrap_or_default();
            for (place, &child) in below.iter().enumerate().rev() {
                waiting.push((child, depth + 1, place + 1 == below.len()));
            }
        }
        nodes
    }

    /// What cannot be by one clock.
    fn clock(&self, index: usize) -> Option<Clock> {
        let child = self.spans.get(index)?;
        let parent = self.spans.get(self.parent(index)?)?;
        let is_answer = parent.kind == Kind::Client && child.kind == Kind::Server;
        if child.start < parent.start {
            Some(Clock::Before(parent.start.saturating_sub(child.start)))
        } else if is_answer && parent.duration.is_some() && child.start > parent.end() {
            Some(Clock::After(child.start.saturating_sub(parent.end())))
        } else {
            None
        }
    }
}
