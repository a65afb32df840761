package testenv

import "flag"

// ManyParallel has eight parallel tests of a package run at a time, unless -parallel
// says otherwise. It is for a TestMain where tests mostly wait, for a program to start
// or for a clock to get somewhere.
func ManyParallel() {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if given {
		return
	}
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err) // there is no such flag outside of tests
	}
}
