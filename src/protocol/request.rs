//! One request as the scanner cut it: the raw frame and where its arguments lie in it.

/// Where one argument lies, in bytes from the start of its frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte of the argument.
    pub start: u32,
    /// Length in bytes.
    pub len: u32,
}

/// The arguments of one request, command name first. A view: it owns nothing.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a> {
    frame: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Args<'a> {
    /// `spans` must lie inside `frame`; a span that does not reads as an empty argument.
    pub fn new(frame: &'a [u8], spans: &'a [Span]) -> Self {
        Self { frame, spans }
    }

    /// How many arguments there are, the command name included.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// True for a request without even a name (`*0`), which Redis ignores.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Argument `index`, the command name being 0.
    #[inline]
    pub fn get(&self, index: usize) -> Option<&'a [u8]> {
        let span = self.spans.get(index)?;
        let start = span.start as usize;
        self.frame.get(start..start + span.len as usize)
    }

    /// Argument `index`, empty where there is none.
    #[inline]
    pub fn at(&self, index: usize) -> &'a [u8] {
        self.get(index).unwrap_or(&[])
    }

    /// All arguments in order, the command name first.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let frame = self.frame;
        self.spans.iter().map(move |s| frame.get(s.start as usize..(s.start + s.len) as usize).unwrap_or(&[]))
    }

    /// The whole frame as it came in.
    pub fn frame(&self) -> &'a [u8] {
        self.frame
    }

    /// Where the arguments lie in the frame.
    pub fn spans(&self) -> &'a [Span] {
        self.spans
    }
}
