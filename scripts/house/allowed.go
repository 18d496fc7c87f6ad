package main

// allowed are the breaches of the rules that are left, with what they come to today. A row is
// lowered with every change that improves on it and goes when the rule is kept; none is added.
var allowed = measured{
	{methods, "checkpoint.Source"}: 55,
}
