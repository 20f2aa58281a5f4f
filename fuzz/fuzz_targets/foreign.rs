#![no_main]
#![expect(missing_docs, reason = "the macro makes a public function without documentation")]

libfuzzer_sys::fuzz_target!(|data: &[u8]| haggle_fuzz::foreign(data));
