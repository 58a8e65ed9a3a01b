//! The fields of the protocol's messages.

/// The rest of a message's body, read from the front.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub fn take(&mut self, length: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(length);
        self.0 = tail;
        head
    }

    pub fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.take(2).try_into().unwrap())
    }

    pub fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    pub fn text(&mut self) -> String {
        let end = self.0.iter().position(|&byte| byte == 0).expect("terminated");
        let text = String::from_utf8(self.take(end).to_vec()).expect("UTF-8");
        self.take(1);
        text
    }
}
