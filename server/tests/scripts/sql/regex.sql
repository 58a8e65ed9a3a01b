-- The longest of the leftmost matches.
SELECT substring('abcd' from 'a|abc'), substring('xabcd' from '(?:a|abc)(?:c?d?)'), substring('foobar' from '(?:foo|foob)');
SELECT substring('ab' from 'a?(?:ab)?'), substring('xyz123' from '(?:x|xyz)[0-9]*'), substring('XY1234Z' from 'Y*([0-9]{1,3})');
SELECT substring('foobar' from 'o.b'), substring('foobar' from 'o(.)b'), substring('abc' from '(x)?b'), substring('abc' from 'x');
SELECT regexp_match('xyz123', '(x|xyz)([0-9]*)'), regexp_match('abcdefg', '(?:a|ab|abc)(?:def|d)?');
SELECT regexp_match('foobarbequebaz', '(bar)(beque)'), regexp_match('abc', '(a)|(b)'), regexp_match('', 'x*');
SELECT regexp_match('abab', '(a|ab)(bab|b)?'), regexp_match('abc', 'b()'), substring('abab' from '(ab)*');
--! differs: of several ways to the same match PostgreSQL takes the one with the longest first group
SELECT regexp_match('xabcd', '(a|ab)(c|bcd)(d*)');
-- Non-greedy quantifiers.
SELECT substring('aaab' from 'a+?'), substring('aaab' from 'a*?b');
SELECT regexp_match('abc01234xyz', '(?:(.*?)(\d+)(.*)){1,1}');
--! differs: PostgreSQL's first quantifier makes the whole pattern non-greedy
SELECT regexp_match('abc01234xyz', '(.*?)(\d+)(.*)'), substring('XY1234Z' from 'Y*?([0-9]{1,3})');
-- Letters are folded as in the "C" locale.
SELECT 'É' ~* 'é', 'É' ILIKE 'é', 'E' ~* 'e', 'é' ~* '[É]', 'q' ~* '[A-P]', 'Q' ~* '[^a-p]', 'Q' ~* '[^A-Z]', 'a' ~* '[[:upper:]]';
SELECT 'ſ' ~* 's', 'ß' ~* 'SS', 'é' ~ '\w', 'é' ~ '[[:alpha:]]', 'Aé' ILIKE 'aé', 'aÉ' ILIKE 'Aé', 'a-b' ~* '[-B]-[B-]', 'A' ~* '\x61';
SELECT lower('É'), upper('é'), initcap('éa');
-- Replacing.
SELECT regexp_replace('abcabc', 'a|ab|abc', '-', 'g'), regexp_replace('abc', 'b*', '-', 'g'), regexp_replace('abc', 'x*', '-', 'g');
SELECT regexp_replace('aaa', 'a*', '-', 'g'), regexp_replace('abc', '', '-', 'g'), regexp_replace('aaa', 'a|', '-', 'g'), regexp_replace('äöü', '', '-', 'g');
SELECT regexp_replace('abcb', 'b', '<\&\1\\>', 'g'), regexp_replace('foo.bar', '(o+)\.(b)', '[\1|\2|\\|\&|\x]'), regexp_replace('Hello', 'l{1,1}', 'L');
SELECT regexp_replace('A PostgreSQL function', 'a|e|i|o|u', 'X', 'gi'), regexp_replace('abc', 'b', '$0');
-- Splitting.
SELECT regexp_split_to_array('abXbcXa', 'X|Xb'), regexp_split_to_array('abc', 'b*'), regexp_split_to_array('abc', '');
SELECT regexp_split_to_array('', 'x'), regexp_split_to_array('xax', 'x'), regexp_split_to_array('aXXb', 'X*'), regexp_split_to_array('the quick  fox', '\s*');
-- Options and escapes.
SELECT regexp_like('ABC', 'b', 'i'), regexp_match('aBc', '(?i)b'), 'a{b' ~ 'a{b', regexp_match('a{b', 'a\{b');
SELECT regexp_match(E'ab\ncd', 'b$', 'n'), regexp_match(E'ab\ncd', '(?n)b$'), E'ab\ncd' ~ 'b$', regexp_match(E'ab\ncd', '[^x]*', 'n'), regexp_match(E'ab\ncd', 'b.', 'n');
SELECT 'a.c' ~ '***=a.c', 'abc' ~ '***=a.c', 'ABC' ~* '***=abc', 'foo bar' ~ '\mbar\M', 'foobar' ~ '\yfoo\y';
SELECT 'x' ~ '[]x]', 'x' ~ '[^]x]', ']' ~ '[]-a]', 'a' ~ '[[:digit:]a]', 'b' ~ '[a\-c]';
SELECT 'a' ~ '(';
SELECT 'a' ~ '[a';
SELECT 'a' ~ '*a';
SELECT regexp_replace('a', 'a', 'b', 'z');
