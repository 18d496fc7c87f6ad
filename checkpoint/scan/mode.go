package scan

// mode says what a pass does with a page.
type mode int

const (
	modePreCopy  mode = iota // send it if the target lacks it
	modeScan                 // the same, and it is seen
	modePostCopy             // have it forgotten if the target lacks it, otherwise it is seen
	modeRest                 // the same as modeScan, but what was seen already is done
	modeDrop                 // have it forgotten if it was not seen
	modeVerify               // send its digest
)

// mustRead says that a page which cannot be read is an error.
func (m mode) mustRead() bool { return m == modeRest || m == modeVerify }
