//! The `sidelight` command.

use mimalloc::MiMalloc;
use std::alloc::{GlobalAlloc, Layout};
use std::ffi::c_void;
use std::process::ExitCode;

/// mimalloc (see Cargo.toml for why), asked for an alignment only where one is needed.
///
/// Its crate asks for one with every call. Above 1 KiB mimalloc 3 then allocates more, aligns by hand, and takes twice as
/// long: two such blocks for each exchange. All that `malloc` returns is aligned for every type that fits into it.
struct Allocator;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

unsafe extern "C" {
    fn mi_malloc(size: usize) -> *mut c_void;
    fn mi_zalloc(size: usize) -> *mut c_void;
    fn mi_realloc(block: *mut c_void, size: usize) -> *mut c_void;
}

/// What `malloc` aligns to: C's `max_align_t` on 64-bit machines, mimalloc's `MI_MAX_ALIGN_SIZE`.
const ALIGN_MAX: usize = 16;

/// Whether `malloc` aligns enough by itself: the standard library's rule for the system's allocator.
#[inline]
const fn is_aligned_anyway(align: usize, size: usize) -> bool {
    align <= ALIGN_MAX && align <= size
}

// SAFETY: all four go to one allocator, whose blocks `mi_free` and `mi_realloc` take however they were made; a block that
// needs more than `malloc` promises comes from the crate's own calls.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_aligned_anyway(layout.align(), layout.size()) {
            // SAFETY: takes any size.
            return unsafe { mi_malloc(layout.size()) }.cast();
        }
        // SAFETY: the caller keeps GlobalAlloc's contract.
        unsafe { MiMalloc.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_aligned_anyway(layout.align(), layout.size()) {
            // SAFETY: takes any size.
            return unsafe { mi_zalloc(layout.size()) }.cast();
        }
        // SAFETY: the caller keeps GlobalAlloc's contract.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps GlobalAlloc's contract.
        unsafe { MiMalloc.dealloc(block, layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if is_aligned_anyway(layout.align(), size) {
            // SAFETY: the block is mimalloc's.
            return unsafe { mi_realloc(block.cast(), size) }.cast();
        }
        // SAFETY: the caller keeps GlobalAlloc's contract.
        unsafe { MiMalloc.realloc(block, layout, size) }
    }
}

/// Runs before the allocator is set up: huge pages under its first arena would double what an idle proxy holds.
#[used]
#[unsafe(link_section = ".init_array.00001")]
static SMALL_PAGES: extern "C" fn() = use_small_pages;

extern "C" fn use_small_pages() {
    sidelight::app::use_small_pages();
}

fn main() -> ExitCode {
    sidelight::cli::main()
}
