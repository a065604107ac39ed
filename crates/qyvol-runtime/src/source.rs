//! Which file and line of its source an instruction of a guest comes from, by the line
//! tables that compilers leave in a component (`.debug_line`, DWARF 2 to 5).
//!
//! A guest's author writes these tables, so they are read in one pass, in time that grows
//! with their size alone, and only what is needed is kept. The rest of DWARF (functions,
//! inlining) is not read: entries that share ranges or nest deeply can cost any amount of
//! memory and stack.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use gimli::{AttributeValue, DebugLine, DebugLineOffset, DebugLineStr, DebugStr, EndianSlice, LittleEndian};
use wasmparser::{Parser, Payload, TypeRef};

use crate::names::NAME;

/// Longest line table that is read, in bytes. Reading it may take a hundred bytes of memory for
/// each byte.
const TABLE: usize = 4 << 20;
/// Longest part of a path that is read, in bytes.
const PATH: usize = 4096;

type Bytes<'a> = EndianSlice<'a, LittleEndian>;

/// An instruction: where it is in the component's bytes, and the function that it is of,
/// by its index in its module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Instruction {
    pub(crate) offset: u32,
    pub(crate) function: u32,
}

/// A place in a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The last part of the path, if it is long.
    pub(crate) file: String,
    pub(crate) line: u32,
}

/// The places that these instructions of a component or module come from, as far as its tables
/// state them.
pub(crate) fn places(wasm: &[u8], of: impl Iterator<Item = Instruction>) -> HashMap<Instruction, Place> {
    let modules = modules(wasm);
    let mut wanted: Vec<HashMap<u64, Vec<Instruction>>> = modules.iter().map(|_| HashMap::new()).collect();
    for instruction in of {
        let found = modules
            .iter()
            .zip(&mut wanted)
            .find(|(module, _)| module.has(instruction));
        if let Some((module, wanted)) = found {
            let address = u64::from(instruction.offset - module.code.start);
            wanted.entry(address).or_default().push(instruction);
        }
    }
    let mut places = HashMap::new();
    for (module, wanted) in modules.iter().zip(wanted) {
        let addresses = wanted.keys().copied().collect();
        module.lines.find(addresses, &mut |address, place| {
            for instruction in wanted.get(&address).into_iter().flatten() {
                places.insert(*instruction, place.clone());
            }
        });
    }
    places
}

/// A core module in a component, or alone.
#[derive(Default)]
struct Module<'a> {
    /// Its code section, by offsets in the component.
    code: Range<u32>,
    /// Functions that it imports, which have the first indices.
    imported: u32,
    /// Its own functions.
    bodies: Vec<Range<u32>>,
    lines: Tables<'a>,
}

impl Module<'_> {
    /// Whether it has this instruction in this function. Modules that the engine itself adds
    /// have unrelated offsets.
    fn has(&self, instruction: Instruction) -> bool {
        let index = instruction.function.checked_sub(self.imported);
        let body = index.and_then(|index| self.bodies.get(usize::try_from(index).ok()?));
        body.is_some_and(|body| body.contains(&instruction.offset))
    }
}

/// The modules in a component, as far as it can be read.
fn modules(wasm: &[u8]) -> Vec<Module<'_>> {
    let range = |range: Range<usize>| {
        let of = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        of(range.start)..of(range.end)
    };
    // The modules that are still open; components have an entry here, too.
    let mut open: Vec<Module<'_>> = Vec::new();
    let mut modules = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        let Ok(payload) = payload else { break };
        if let Payload::Version { .. } = payload {
            open.push(Module::default());
        }
        let Some(module) = open.last_mut() else { break };
        match payload {
            Payload::ImportSection(imports) => {
                let is_function = |ty: &TypeRef| matches!(ty, TypeRef::Func(_) | TypeRef::FuncExact(_));
                let imports = imports.into_imports().flatten();
                let functions = imports.filter(|import| is_function(&import.ty)).count();
                module.imported = u32::try_from(functions).unwrap_or(u32::MAX);
            }
            Payload::CodeSectionStart { range: code, .. } => module.code = range(code),
            Payload::CodeSectionEntry(body) => module.bodies.push(range(body.range())),
            Payload::CustomSection(section) => module.lines.add(section.name(), section.data()),
            Payload::End(_) => modules.extend(open.pop().filter(|module| !module.bodies.is_empty())),
            _ => {}
        }
    }
    modules
}

/// The line tables of a module, and the strings that they refer to.
#[derive(Clone, Copy, Default)]
struct Tables<'a> {
    lines: &'a [u8],
    line_strings: &'a [u8],
    strings: &'a [u8],
}

impl<'a> Tables<'a> {
    fn add(&mut self, name: &str, data: &'a [u8]) {
        match name {
            ".debug_line" => self.lines = data,
            ".debug_line_str" => self.line_strings = data,
            ".debug_str" => self.strings = data,
            _ => {}
        }
    }

    /// Finds the places of these addresses, each once.
    fn find(self, mut addresses: BTreeSet<u64>, found: &mut dyn FnMut(u64, Place)) {
        let mut at = 0;
        while at < self.lines.len() && !addresses.is_empty() {
            let Some(length) = self.table_length(at) else { return };
            // A damaged table is skipped; the next one may be valid.
            if length <= TABLE {
                let _ = self.search(at, &mut addresses, found);
            }
            at = at.saturating_add(length);
        }
    }

    /// The length of the table that begins there (DWARF 5, section 7.4).
    fn table_length(self, at: usize) -> Option<usize> {
        let (first, rest) = self.lines.get(at..)?.split_first_chunk::<4>()?;
        match u32::from_le_bytes(*first) {
            u32::MAX => {
                let (length, _) = rest.split_first_chunk::<8>()?;
                usize::try_from(u64::from_le_bytes(*length)).ok()?.checked_add(12)
            }
            length => usize::try_from(length).ok()?.checked_add(4),
        }
    }

    /// Runs the program of the table that begins there.
    fn search(self, at: usize, addresses: &mut BTreeSet<u64>, found: &mut dyn FnMut(u64, Place)) -> gimli::Result<()> {
        let lines = DebugLine::from(EndianSlice::new(self.lines, LittleEndian));
        // Addresses have 32 bits, which a table before DWARF 5 doesn't state.
        let program = lines.program(DebugLineOffset(at), 4, None, None)?;
        let mut rows = program.rows();
        // Where the last row begins, with its file and line.
        let mut last: Option<(u64, u64, u64)> = None;
        let (mut is_start, mut is_removed) = (true, false);
        while let Some((header, row)) = rows.next_row()? {
            let address = row.address();
            // The linker leaves the addresses of removed functions at 0.
            is_removed = if is_start { address == 0 } else { is_removed };
            if let Some((begin, file, line)) = last
                && begin < address
            {
                let within: Vec<u64> = addresses.range(begin..address).copied().collect();
                for address in within {
                    addresses.remove(&address);
                    if let (Some(file), Ok(line)) = (self.file(header, file), u32::try_from(line)) {
                        found(address, Place { file, line });
                    }
                }
            }
            is_start = row.end_sequence();
            last = match (is_start, row.line()) {
                (true, _) => None,
                _ if is_removed => None,
                (false, Some(line)) => Some((address, row.file_index(), line.get())),
                // Code without a line belongs to the line before.
                (false, None) => last.map(|(_, file, line)| (address, file, line)),
            };
        }
        Ok(())
    }

    /// The path of a file, as far as the table has it.
    fn file(self, header: &gimli::LineProgramHeader<Bytes<'a>>, index: u64) -> Option<String> {
        let file = header.file(index)?;
        let name = self.text(file.path_name())?;
        // Before DWARF 5, 0 is the compiler's directory, which is stored elsewhere.
        let directory = (header.version() >= 5 || file.directory_index() != 0)
            .then(|| file.directory(header).and_then(|directory| self.text(directory)))
            .flatten();
        let path = match directory {
            Some(directory) if !name.starts_with('/') && !directory.is_empty() => format!("{directory}/{name}"),
            _ => name,
        };
        let long = path.chars().count().saturating_sub(NAME);
        Some(path.chars().skip(long).collect())
    }

    fn text(self, value: AttributeValue<Bytes<'a>>) -> Option<String> {
        let slice = |bytes: &'a [u8]| EndianSlice::new(bytes, LittleEndian);
        let text = match value {
            AttributeValue::String(text) => text,
            AttributeValue::DebugLineStrRef(at) => DebugLineStr::from(slice(self.line_strings)).get_str(at).ok()?,
            AttributeValue::DebugStrRef(at) => DebugStr::from(slice(self.strings)).get_str(at).ok()?,
            _ => return None,
        };
        let text = text.slice().get(..text.len().min(PATH))?;
        Some(String::from_utf8_lossy(text).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tests/guests/busy.c`, compiled.
    const BUSY: &[u8] = include_bytes!("../../../tests/guests/busy.module.wasm");

    fn lines(wasm: &[u8], function: u32) -> Vec<u32> {
        let all = (0..u32::try_from(wasm.len()).unwrap()).map(|offset| Instruction { offset, function });
        let mut lines: Vec<u32> = places(wasm, all).values().map(|place| place.line).collect();
        lines.sort_unstable();
        lines.dedup();
        lines
    }

    // [RUN-074]
    #[test]
    fn instructions_have_the_lines_of_their_functions_alone() {
        // An import is function 0; then `compute`, `fail`, `_start`.
        assert!(lines(BUSY, 0).is_empty());
        assert_eq!(lines(BUSY, 1), [9, 10, 11]);
        assert_eq!(lines(BUSY, 2), [13, 14, 15, 16]);
        assert_eq!(lines(BUSY, 3), [18, 19, 20, 21, 22, 23]);
        assert!(lines(BUSY, 4).is_empty());
        let at = places(BUSY, (0..2000).map(|offset| Instruction { offset, function: 1 }));
        assert!(at.values().all(|place| place.file == "busy.c"));
    }

    // [RUN-074]
    #[test]
    fn damaged_tables_yield_less_and_do_no_harm() {
        let all = || (0..2000).map(|offset| Instruction { offset, function: 1 });
        for at in 0..BUSY.len() {
            let mut damaged = BUSY.to_vec();
            for byte in [0x00, 0x7f, 0xff] {
                damaged[at] = byte;
                places(&damaged, all());
            }
            places(&BUSY[..at], all());
        }
        // One of 4 GiB, and one of no length.
        for length in [[0xff; 4], [0; 4]] {
            let tables = Tables {
                lines: &length.repeat(64),
                ..Tables::default()
            };
            tables.find((0..100).collect(), &mut |_, _| panic!("there is nothing"));
        }
    }
}
