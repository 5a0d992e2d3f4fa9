//! The few bytes of the binary format that the injector writes itself.

pub(crate) const SECTION_TYPE: u8 = 1;
pub(crate) const SECTION_IMPORT: u8 = 2;
pub(crate) const SECTION_FUNCTION: u8 = 3;
pub(crate) const SECTION_MEMORY: u8 = 5;
pub(crate) const SECTION_GLOBAL: u8 = 6;
pub(crate) const SECTION_EXPORT: u8 = 7;
pub(crate) const SECTION_CODE: u8 = 10;

pub(crate) const I32: u8 = 0x7f;
pub(crate) const I64: u8 = 0x7e;
pub(crate) const FUNCTION_TYPE: u8 = 0x60;
pub(crate) const EXTERNAL_MEMORY: u8 = 2;
pub(crate) const EXPORT_GLOBAL: u8 = 3;

pub(crate) const END: u8 = 0x0b;
const UNREACHABLE: u8 = 0x00;
const IF: u8 = 0x04;
const CALL: u8 = 0x10;
const LOCAL_GET: u8 = 0x20;
const LOCAL_SET: u8 = 0x21;
const LOCAL_TEE: u8 = 0x22;
const GLOBAL_GET: u8 = 0x23;
const GLOBAL_SET: u8 = 0x24;
const I32_CONST: u8 = 0x41;
const I64_CONST: u8 = 0x42;
const VOID: u8 = 0x40;

/// Append an unsigned LEB128.
pub(crate) fn unsigned(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Append a signed LEB128.
pub(crate) fn signed(out: &mut Vec<u8>, mut value: i64) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        let sign = low & 0x40 != 0;
        if (value == 0 && !sign) || (value == -1 && sign) {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Instructions as bytes.
#[derive(Default)]
pub(crate) struct Code(pub(crate) Vec<u8>);

impl Code {
    fn indexed(mut self, opcode: u8, index: u32) -> Self {
        self.0.push(opcode);
        unsigned(&mut self.0, index.into());
        self
    }

    pub(crate) fn op(mut self, opcode: u8) -> Self {
        self.0.push(opcode);
        self
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn call(self, function: u32) -> Self {
        self.indexed(CALL, function)
    }

    pub(crate) fn local_get(self, local: u32) -> Self {
        self.indexed(LOCAL_GET, local)
    }

    pub(crate) fn local_set(self, local: u32) -> Self {
        self.indexed(LOCAL_SET, local)
    }

    pub(crate) fn local_tee(self, local: u32) -> Self {
        self.indexed(LOCAL_TEE, local)
    }

    pub(crate) fn global_get(self, global: u32) -> Self {
        self.indexed(GLOBAL_GET, global)
    }

    pub(crate) fn global_set(self, global: u32) -> Self {
        self.indexed(GLOBAL_SET, global)
    }

    pub(crate) fn i32_const(mut self, value: i32) -> Self {
        self.0.push(I32_CONST);
        signed(&mut self.0, value.into());
        self
    }

    pub(crate) fn i64_const(mut self, value: i64) -> Self {
        self.0.push(I64_CONST);
        signed(&mut self.0, value);
        self
    }

    /// Trap when the condition on the stack holds.
    pub(crate) fn trap_if(self) -> Self {
        self.op(IF).op(VOID).op(UNREACHABLE).op(END)
    }
}
