//! Stack space for parsers that recurse once for each operator of a text.

/// The maximum stack space for each byte of code. The worst case is `1+1+…`: an unoptimised build needs about 2,000 bytes for each
/// operator.
const FOR_A_BYTE: usize = 2048;

/// The space that is free on the stack of every thread, which has 2 MiB.
const FREE: usize = 512 << 10;

/// The maximum size of a new stack. Memory is used only as far as the recursion goes.
const MOST: usize = 256 << 20;

/// Calls `parse` on a stack with space for an expression of `code` bytes, up to a limit. Otherwise thousands of operators would end
/// the process, because minijinja's compiler and the destructors of sqlparser's trees do not limit their recursion.
pub fn with_stack_for<T>(code: usize, parse: impl FnOnce() -> T) -> T {
    let needed = code.saturating_mul(FOR_A_BYTE).min(MOST);
    if needed <= FREE { parse() } else { stacker::grow(needed + FREE, parse) }
}
