package ui

import (
	"math/big"
	"strconv"

	"tokenhub/config"
)

// maxUSD is the largest amount of US dollars that may be set as a limit.
const maxUSD = 1_000_000_000

// dollars is an amount in micro-dollars that is a plain decimal number of US
// dollars in JSON, exact to the last digit: 2500000 is 2.5.
type dollars int64

// String writes the amount in US dollars without trailing zeros.
func (d dollars) String() string { return config.FormatUSD(int64(d)) }

// MarshalJSON writes the amount as a number.
func (d dollars) MarshalJSON() ([]byte, error) { return []byte(d.String()), nil }

// parseDollars reads the text of a JSON number as US dollars. The number is
// taken as it is written in decimal, never as a float: 0.1 is a tenth. What is
// below a millionth of a dollar or finer than that is refused.
func parseDollars(name, text string) (int64, error) {
	approx, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil || approx > maxUSD || len(text) > 40: // the bounds keep the exact reading cheap
		return 0, errInvalid("%s is too large or too long: at most %d US dollars.", quote(name), maxUSD)
	case approx == 0:
		return 0, errZero(name)
	case approx < 1e-9: // negative ones too
		return 0, errInvalid("%s must be at least 0.000001 US dollars.", quote(name))
	}
	micro, ok := new(big.Rat).SetString(text)
	if !ok {
		return 0, errInvalid("%s must be a number of US dollars.", quote(name))
	}
	micro.Mul(micro, big.NewRat(1_000_000, 1))
	if micro.Cmp(big.NewRat(1, 1)) < 0 {
		return 0, errInvalid("%s must be at least 0.000001 US dollars.", quote(name))
	}
	if !micro.IsInt() {
		return 0, errInvalid("%s has more than 6 decimals: a millionth of a US dollar is the smallest unit.", quote(name))
	}
	return micro.Num().Int64(), nil
}

// errZero refuses 0 as a limit: some mean "none" by it, others "nothing".
func errZero(name string) *Error {
	return errInvalid("%s can't be 0: leave it empty for no limit, disable the key for none.", quote(name))
}
