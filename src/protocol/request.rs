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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_by_place() {
        let spans = [Span { start: 0, len: 3 }, Span { start: 4, len: 0 }, Span { start: 5, len: 2 }];
        let args = Args::new(b"GET  ab", &spans);
        assert_eq!((args.len(), args.is_empty()), (3, false));
        assert_eq!(args.iter().collect::<Vec<_>>(), [&b"GET"[..], b"", b"ab"]);
        assert_eq!((args.get(1), args.get(3)), (Some(&b""[..]), None));
        assert_eq!((args.at(2), args.at(3)), (&b"ab"[..], &b""[..]));
        assert_eq!((args.frame(), args.spans()), (&b"GET  ab"[..], &spans[..]));
    }

    #[test]
    fn a_span_outside_the_frame_reads_as_empty() {
        let spans = [Span { start: 2, len: 9 }, Span { start: 90, len: 1 }];
        let args = Args::new(b"abc", &spans);
        assert_eq!(args.iter().collect::<Vec<_>>(), [b"", b""]);
        assert_eq!((args.at(0), args.get(1)), (&b""[..], None));
        assert!(Args::new(b"", &[]).is_empty());
    }
}
