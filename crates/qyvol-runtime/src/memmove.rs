//! `memmove` of the static releases on x86-64.
//!
//! musl's own moves one byte at a time where the ranges overlap upwards, even if they are
//! the same: a guest that read files took three times as long
//! (`spec/decisions/0016-static.md`).
//!
//! In assembly, because the compiler would make calls of `memmove` of its loops.

use std::arch::asm;

/// From this length on, one instruction is faster than a loop.
const LONG: usize = 512;
/// Down to a distance below this one, it moves byte by byte.
const NEAR: usize = 64;

/// C's `memmove`, in place of musl's.
///
/// # Safety
///
/// As for [`std::ptr::copy`].
// SAFETY: it does what C specifies for this name, and nothing else defines it: the linker
// searches musl's library last.
#[cfg(target_env = "musl")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8 {
    let distance = to.addr().wrapping_sub(from.addr());
    match distance {
        0 => {}
        // SAFETY: the caller's, and the ranges overlap upwards.
        _ if distance < bytes => unsafe { upwards(to, from, bytes) },
        // SAFETY: the caller's, and they don't.
        _ => unsafe { downwards(to, from, bytes) },
    }
    to
}

/// Moves bytes to a higher address, from their end to their beginning.
///
/// # Safety
///
/// As for [`std::ptr::copy`], and `to` must be above `from`.
unsafe fn upwards(to: *mut u8, from: *const u8, bytes: usize) {
    // SAFETY: `bytes` counts down what is left of both ranges, and each turn writes above
    // all that is still to be read.
    unsafe {
        asm!(
            "cmp {n}, 32",
            "jb 3f",
            "2:",
            "movups {a}, [{from} + {n} - 16]",
            "movups {b}, [{from} + {n} - 32]",
            "movups [{to} + {n} - 16], {a}",
            "movups [{to} + {n} - 32], {b}",
            "sub {n}, 32",
            "cmp {n}, 32",
            "jae 2b",
            "3:",
            "sub {n}, 1",
            "jb 4f",
            "mov {byte}, [{from} + {n}]",
            "mov [{to} + {n}], {byte}",
            "jmp 3b",
            "4:",
            n = inout(reg) bytes => _,
            to = in(reg) to,
            from = in(reg) from,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            byte = out(reg_byte) _,
            options(nostack),
        );
    }
}

/// Moves bytes to a lower address, or elsewhere, from their beginning to their end.
///
/// # Safety
///
/// As for [`std::ptr::copy`], and `to` must not be in the range above `from`.
// SAFETY: broken by a caller that does not ensure this.
unsafe fn downwards(to: *mut u8, from: *const u8, bytes: usize) {
    // SAFETY: the pointers move up to the ends of both ranges, and each turn writes below
    // all that is still to be read.
    unsafe {
        if bytes >= LONG && from.addr().wrapping_sub(to.addr()) >= NEAR {
            asm!(
                "rep movsb",
                inout("rcx") bytes => _,
                inout("rdi") to => _,
                inout("rsi") from => _,
                options(nostack, preserves_flags),
            );
            return;
        }
        asm!(
            "cmp {n}, 32",
            "jb 3f",
            "2:",
            "movups {a}, [{from}]",
            "movups {b}, [{from} + 16]",
            "movups [{to}], {a}",
            "movups [{to} + 16], {b}",
            "add {from}, 32",
            "add {to}, 32",
            "sub {n}, 32",
            "cmp {n}, 32",
            "jae 2b",
            "3:",
            "sub {n}, 1",
            "jb 4f",
            "mov {byte}, [{from}]",
            "mov [{to}], {byte}",
            "inc {from}",
            "inc {to}",
            "jmp 3b",
            "4:",
            n = inout(reg) bytes => _,
            to = inout(reg) to => _,
            from = inout(reg) from => _,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            byte = out(reg_byte) _,
            options(nostack),
        );
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn bytes_arrive_whatever_the_lengths_and_distances() {
        for bytes in (0..130).chain([LONG - 1, LONG, 4096, 65_537]) {
            for distance in [1, 2, 15, 16, 17, 31, 32, 33, NEAR, 100, 5000] {
                let length = bytes + distance;
                let source: Vec<u8> = (0..length).map(|n| u8::try_from(n * 7 % 251).unwrap()).collect();
                let (mut up, mut down) = (source.clone(), source.clone());
                // SAFETY: both ranges are in the vector.
                unsafe {
                    upwards(up.as_mut_ptr().add(distance), up.as_ptr(), bytes);
                    downwards(down.as_mut_ptr(), down.as_ptr().add(distance), bytes);
                }
                let mut expected = source.clone();
                expected.copy_within(..bytes, distance);
                assert!(up == expected, "{bytes} up by {distance}");
                expected.clone_from(&source);
                expected.copy_within(distance.., 0);
                assert!(down == expected, "{bytes} down by {distance}");
            }
        }
    }
}
