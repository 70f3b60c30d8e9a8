//! Stack space for parsers that recurse once for each operator of a text.

/// The maximum length of an expression, in bytes (128 KiB). Its parser needs a stack of 256 MiB at the most.
pub const MAX_CODE: usize = 128 << 10;

/// The maximum stack space for each byte of code. The worst case is `1+1+…`: an unoptimised build needs about 2,000 bytes for each
/// operator.
const STACK_PER_BYTE: usize = 2048;

/// The space that is free on the stack of every thread, which has 2 MiB.
const FREE_STACK: usize = 512 << 10;

/// Calls `parse` on a stack with space for an expression of `code` bytes, at most [`MAX_CODE`]. Otherwise thousands of operators
/// would end the process, because minijinja's compiler and the destructors of sqlparser's trees do not limit their recursion.
/// Memory is used only as far as the recursion goes.
pub fn with_stack_for<T>(code: usize, parse: impl FnOnce() -> T) -> T {
    let needed = code.min(MAX_CODE) * STACK_PER_BYTE;
    if needed <= FREE_STACK { parse() } else { stacker::grow(needed + FREE_STACK, parse) }
}
