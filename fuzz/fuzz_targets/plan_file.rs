#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| provision::fuzzing::plan_file(bytes));
