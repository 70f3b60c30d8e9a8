//! Room on the stack for parsers that recurse as often as a text has operators.

/// How many bytes of stack a byte of code takes at the most. `1+1+…` takes the most: an unoptimised build needs some 2,000 bytes for
/// each operator.
const FOR_A_BYTE: usize = 2048;

/// What is free on every thread's stack of 2 MiB.
const FREE: usize = 512 << 10;

/// Virtual memory, which is used only as far as the recursion goes.
const MOST: usize = 256 << 20;

/// Calls `parse` on a stack with room for an expression of `code` bytes. Without it, an expression with thousands of operators would end
/// the process: neither minijinja's compiler nor the destructors of sqlparser's trees limit their recursion.
pub fn with_stack_for<T>(code: usize, parse: impl FnOnce() -> T) -> T {
    let needed = code.saturating_mul(FOR_A_BYTE).min(MOST);
    if needed <= FREE { parse() } else { stacker::grow(needed + FREE, parse) }
}
